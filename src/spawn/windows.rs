//! The portable engine on Windows: async-process starts, waits and reaps. Descriptors are 0, 1 and 2.
