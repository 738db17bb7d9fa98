//! `#[test]` in `tests/it`: it hands the function to the harness there, `tests/it/harness.rs`, instead of
//! libtest's. It refuses to know how a test is run.

use proc_macro::{TokenStream, TokenTree};

/// Registers a function without arguments under its path.
#[proc_macro_attribute]
pub fn test(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens = function.clone().into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"));
    let Some(TokenTree::Ident(name)) = tokens.next() else {
        return "compile_error!(\"#[test] is for functions\");".parse().expect("Rust");
    };
    let registered = format!(
        "::inventory::submit! {{
            crate::harness::Test {{ module: module_path!(), name: stringify!({name}), body: {name} }}
        }}"
    );
    function.into_iter().chain(registered.parse::<TokenStream>().expect("Rust")).collect()
}
