//! The `sconce` command.

mod cli;

fn main() -> std::process::ExitCode {
    // Mesa's layer that orders the GPUs asks Wayland, whose library prints an error of its own where there is no session.
    // With any value it stays silent.
    #[cfg(target_os = "linux")]
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", "/run/user/none") };
    }
    cli::main()
}
