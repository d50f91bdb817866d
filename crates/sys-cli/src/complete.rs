//! Completion in shells: a script for each that asks the program itself, since only it knows the server's commands.

use clap::{Arg, ArgAction, Command};

/// The word behind which the scripts put what is on the command line.
pub(crate) const COMMAND: &str = "__complete";

/// The script for a shell. Candidates go from the program to the shell as data: none of them is ever expanded.
pub(crate) fn script(shell: &str) -> &'static str {
    match shell {
        "zsh" => ZSH,
        "fish" => FISH,
        _ => BASH,
    }
}

/// Bash breaks words at `=` and `:` and replaces only what stands behind them, so the line is split here.
const BASH: &str = r#"_sys() {
    local words candidates
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:COMP_POINT-1:1} == ' ' ]] && words+=('')
    mapfile -t candidates < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null | cut -f 1)
    [[ ${words[-1]} == *=* ]] && candidates=("${candidates[@]#*=}")
    COMPREPLY=("${candidates[@]}")
}
complete -o default -F _sys sys
"#;

const ZSH: &str = r#"#compdef sys
_sys() {
    local line
    local -a candidates
    while IFS= read -r line; do
        candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#candidates} )); then _describe 'sys' candidates; else _files; fi
}
compdef _sys sys
"#;

const FISH: &str = r#"function __sys_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l candidates ($words[1] __complete $words[2..-1] 2>/dev/null)
    if test (count $candidates) -gt 0
        printf '%s\n' $candidates
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c sys -f -a '(__sys_complete)'
"#;

/// What can stand in place of the last word, each with its help behind a tab.
pub(crate) fn candidates(root: &Command, words: &[String]) -> Vec<String> {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", words),
    };
    let globals: Vec<&Arg> = root.get_arguments().filter(|arg| arg.is_global_set()).collect();
    let mut command = root;
    let mut expects: Option<&Arg> = None;
    for word in before {
        if expects.take().is_some() {
            continue;
        }
        match word.strip_prefix("--") {
            Some(flag) => expects = argument(command, &globals, flag).filter(|arg| takes_value(arg)),
            None => command = command.find_subcommand(word).unwrap_or(command),
        }
    }
    let found: Vec<(String, String)> = match (expects, last.split_once('=')) {
        (Some(arg), _) => possible(arg, ""),
        (None, Some((flag, _))) => {
            let arg = flag.strip_prefix("--").and_then(|flag| argument(command, &globals, flag));
            arg.map(|arg| possible(arg, &format!("{flag}="))).unwrap_or_default()
        }
        (None, None) if last.starts_with('-') => flags(command, &globals),
        (None, None) => nouns_and_verbs(command),
    };
    let fitting = found.into_iter().filter(|(candidate, _)| candidate.starts_with(last));
    fitting.map(|(candidate, help)| format!("{candidate}\t{help}")).collect()
}

fn argument<'a>(command: &'a Command, globals: &[&'a Arg], flag: &str) -> Option<&'a Arg> {
    let mut all = command.get_arguments().chain(globals.iter().copied());
    all.find(|arg| arg.get_long() == Some(flag))
}

fn takes_value(arg: &Arg) -> bool {
    // A flag that wants `=` never takes the next word.
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
}

fn possible(arg: &Arg, before: &str) -> Vec<(String, String)> {
    let values = arg.get_possible_values();
    values.iter().map(|value| (format!("{before}{}", value.get_name()), String::new())).collect()
}

fn flags(command: &Command, globals: &[&Arg]) -> Vec<(String, String)> {
    let all = command.get_arguments().chain(globals.iter().copied()).filter(|arg| !arg.is_hide_set());
    let mut flags: Vec<(String, String)> = all
        .filter_map(|arg| Some((format!("--{}", arg.get_long()?), arg.get_help().map(ToString::to_string)?)))
        .chain([("--help".to_owned(), "Shows help".to_owned())])
        .collect();
    flags.sort();
    flags.dedup();
    flags
}

fn nouns_and_verbs(command: &Command) -> Vec<(String, String)> {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let named = shown.map(|command| {
        (command.get_name().to_owned(), command.get_about().map(ToString::to_string).unwrap_or_default())
    });
    let positions = command.get_positionals().flat_map(|arg| possible(arg, ""));
    named.chain(positions).collect()
}
