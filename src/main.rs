//! The one binary: hands its arguments to [`watchfire::cli`].

fn main() -> std::process::ExitCode {
    watchfire::cli::main(std::env::args_os())
}
