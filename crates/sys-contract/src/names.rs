//! Names derived from a contract's names: words in kebab and snake case, CLI nouns and verbs, and the nearest name to a
//! misspelt one.
//!
//! Pure text. What a name must not be (reserved, taken) is decided where it is used, in [`mod@crate::load`].

/// Nouns that the CLI keeps for its own commands; no service may be called so.
pub const RESERVED_NOUNS: &[&str] = &[
    "check",
    "completion",
    "completions",
    "explain",
    "help",
    "login",
    "logout",
    "man",
    "setup",
    "status",
    "trust",
    "version",
    "whoami",
];

/// Names longer than this get no hint: comparing costs the product of both lengths.
const HINT_MAX_CHARS: usize = 64;
/// At most this many names are compared with a misspelt one.
const HINT_MAX_CANDIDATES: usize = 256;

/// The words of a name in CamelCase or snake_case, in lower case. An acronym is one word: `GetHTTPUrl` is get, http, url.
pub fn words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before: Option<char> = None;
    let mut rest = name.chars().peekable();
    while let Some(letter) = rest.next() {
        let begins = letter.is_ascii_uppercase()
            && match before {
                Some(before) if before.is_ascii_uppercase() => rest.peek().is_some_and(char::is_ascii_lowercase),
                before => before.is_some(),
            };
        if (begins || letter == '_') && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if letter != '_' {
            word.push(letter.to_ascii_lowercase());
        }
        before = Some(letter);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What the CLI calls a service: its name without `Service`, in kebab case.
pub fn noun(service: &str) -> String {
    let name = service.strip_suffix("Service").filter(|name| !name.is_empty()).unwrap_or(service);
    words(name).join("-")
}

/// What the CLI calls a method of the service with this noun: its name without the noun, singular or plural, in kebab
/// case. `CreateNote` of `note` is `create`; a name that is nothing but the noun stays whole.
pub fn verb(method: &str, noun: &str) -> String {
    let mut method = words(method);
    let singular: Vec<String> = noun.split('-').map(str::to_owned).collect();
    let mut plural = singular.clone();
    if let Some(last) = plural.last_mut() {
        *last = plural_of(last);
    }
    if method.len() > singular.len() {
        let at = method.windows(singular.len()).position(|part| part == singular || part == plural);
        if let Some(at) = at {
            method.drain(at..at + singular.len());
        }
    }
    method.join("-")
}

/// What stands before `_` in the ids of a record type: its message name in snake case.
pub fn id_prefix(message: &str) -> String {
    words(message).join("_")
}

/// The plural of a word or name: `note` is `notes`, `Entry` is `Entries`.
pub fn plural_of(word: &str) -> String {
    let consonant_y = word.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    match consonant_y {
        Some(stem) => format!("{stem}ies"),
        None if ["s", "x", "z", "ch", "sh"].iter().any(|end| word.ends_with(end)) => format!("{word}es"),
        None => format!("{word}s"),
    }
}

/// The candidate that was probably meant: at most a third of its letters differ, case aside.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length == 0 || length > HINT_MAX_CHARS {
        return None;
    }
    let allowed = length.div_ceil(3);
    candidates
        .into_iter()
        .take(HINT_MAX_CANDIDATES)
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= allowed)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove or replace to make one name of the other (Levenshtein), case aside.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().map(|letter| letter.to_ascii_lowercase()).collect();
    // The distances of the empty name to each beginning of `other`; then one letter of `one` after the other.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().map(|letter| letter.to_ascii_lowercase()).enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (pair, against) in row.windows(2).zip(&other) {
            if let [diagonal, above] = *pair {
                left = (diagonal + usize::from(letter != *against)).min(above + 1).min(left + 1);
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_gives_its_noun_and_a_method_its_verb() {
        let check = |service: &str, method: &str, expect: (&str, &str)| {
            let noun = noun(service);
            assert_eq!((noun.as_str(), verb(method, &noun).as_str()), expect);
        };
        check("NoteService", "CreateNote", ("note", "create"));
        check("NoteService", "ListNotes", ("note", "list"));
        check("OrgService", "ListMyOrgs", ("org", "list-my"));
        check("OrgService", "GetOrgLogo", ("org", "get-logo"));
        check("OrgService", "Org", ("org", "org"));
        check("AuthService", "Login", ("auth", "login"));
        check("AuthService", "ForgotPassword", ("auth", "forgot-password"));
        check("RoleBindingService", "ListRoleBindings", ("role-binding", "list"));
        check("CategoryService", "ListCategories", ("category", "list"));
        check("Service", "Ping", ("service", "ping"));
        check("HTTPRouteService", "GetHTTPRoute", ("http-route", "get"));
    }

    #[test]
    fn a_message_gives_the_prefix_of_its_ids() {
        assert_eq!(id_prefix("Note"), "note");
        assert_eq!(id_prefix("RoleBinding"), "role_binding");
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour_and_a_strange_one_none() {
        let fields = ["org_id", "project_id", "author_id"];
        assert_eq!(nearest("ogr_id", fields), Some("org_id"));
        assert_eq!(nearest("projectid", fields), Some("project_id"));
        assert_eq!(nearest("AUTHOR_ID", fields), Some("author_id"));
        assert_eq!(nearest("colour", fields), None);
        assert_eq!(nearest("", fields), None);
    }
}
