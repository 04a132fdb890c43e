//! The programs in `docs/src/examples/how-to` are formatted and compile without warnings.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use certmint_local_cluster::repository;

fn assert_prints_nothing(language: &str, program: &str, arguments: &[&str]) {
    let source = repository::root().join("docs/src/examples/how-to").join(language).join("app");
    let output = Command::new(program).args(arguments).current_dir(source).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(output.status.success() && printed.is_empty(), "{program} {arguments:?}: {printed}");
}

#[test]
fn go_programs_are_formatted_and_vetted() {
    assert_prints_nothing("go", "gofmt", &["-l", "."]);
    assert_prints_nothing("go", "go", &["vet", "."]);
}

#[test]
fn python_programs_compile_without_warnings() {
    let compile =
        "import pathlib\nfor file in pathlib.Path().glob('*.py'): compile(file.read_text(), file, 'exec')";
    assert_prints_nothing("python", "python3", &["-W", "error", "-c", compile]);
}
