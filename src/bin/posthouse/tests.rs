//! The command line as its help shows it: every example in it can be typed.

use clap::{Command as Clap, CommandFactory, Parser};

use super::*;

/// The arguments of every example line, as a shell would split them.
fn examples(command: &Clap) -> Vec<Vec<String>> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().filter(|line| line.starts_with("  ") && line.contains("posthouse "));
    let mut found: Vec<Vec<String>> = lines
        .map(|line| {
            let start = line.rfind("posthouse ").expect("looked for just above");
            let call = line[start..].split("    ").next().unwrap().split(['<', '>', '|']).next().unwrap();
            call.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
        })
        .collect();
    found.extend(command.get_subcommands().flat_map(examples));
    found
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
fn every_command_has_an_example() {
    for command in CommandLine::command().get_subcommands() {
        assert!(!examples(command).is_empty(), "{}", command.get_name());
    }
}
