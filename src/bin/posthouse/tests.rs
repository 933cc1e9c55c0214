//! The command line as its help shows it: every example in it can be typed.

use clap::{Command as Clap, CommandFactory, Parser};

use super::*;

/// The arguments of every example line, as a shell would split them.
fn examples(command: &Clap) -> Vec<Vec<String>> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // A link to the program is no call of it.
    let is_call = |line: &str| line.contains("posthouse ") && !line.trim_start().starts_with("ln ");
    let lines = help.lines().filter(|line| line.starts_with("  ") && is_call(line));
    let mut found: Vec<Vec<String>> = lines
        .map(|line| {
            let start = line.rfind("posthouse ").expect("looked for just above");
            words(line[start..].split("    ").next().expect("a split has a first part"))
        })
        .collect();
    found.extend(command.get_subcommands().flat_map(examples));
    found
}

/// What a shell would make of it, up to the first redirection or pipe.
fn words(call: &str) -> Vec<String> {
    let mut words = vec![None::<String>];
    let mut quoted = false;
    for letter in call.chars() {
        let word = words.last_mut().expect("there is always a last word");
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '<' | '>' | '|' if !quoted => break,
            ' ' if !quoted => words.push(None),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.into_iter().flatten().collect()
}

#[test]
fn the_command_line_is_well_made() {
    CommandLine::command().debug_assert();
}

#[test]
fn every_example_in_the_help_can_be_typed() {
    let examples = examples(&CommandLine::command());
    assert!(examples.len() >= 18, "{examples:?}");
    for example in examples {
        if let Err(error) = CommandLine::try_parse_from(&example) {
            panic!("{example:?}: {error}");
        }
    }
}

#[test]
fn no_line_of_the_help_is_broken_where_a_terminal_ends() {
    fn too_long(command: &Clap) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let long = help.lines().filter(|line| line.chars().count() > 100);
        let mut found: Vec<String> = long.map(|line| format!("{}: {line}", command.get_name())).collect();
        found.extend(command.get_subcommands().flat_map(too_long));
        found
    }
    assert_eq!(too_long(&CommandLine::command()), Vec::<String>::new());
}

#[test]
fn every_command_has_an_example() {
    for command in CommandLine::command().get_subcommands() {
        assert!(!examples(command).is_empty(), "{}", command.get_name());
    }
}
