/* Wine 8 has no bcryptprimitives.dll, of which Rust's std imports one function. This is that function, over
 * the one that Wine has. */
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T len) { return SystemFunction036(data, (ULONG)len); }
