//! What the reader takes, and a table of what it refuses with the line that it names.

use super::*;
use proptest::prelude::*;
use std::path::Path;

/// The smallest file that uses every part of the format, with nothing wrong in it. Tests break one line of it.
const GOOD: &str = "\
orgs:
  main_bootstrap_orgs:
    - org:
        name: Harbour
        contact: office@example.org
        creator_id: Ines@Example.org
        logo_upload_bytes: iVBORw0KGgo
projects:
  main_bootstrap_projects:
    - project:
        name: Lights
        creator_id: ines@example.org
        org_name: Harbour
        logo_upload_bytes: /9j/4A==
      projectdetails:
        goal: See the coast
        sys_account_org_ref_name: Elsewhere
regular_users:
  main_bootstrap_regular_users:
    - newaccounts:
        email: ada@example.org
        password: 1234567890
        name: Ada
        avatar_upload_bytes: iVBORw0KGgo=
        new_user_roles:
          - role: 2
            project_name: Lights
          - {role: 3, org_name: Harbour}
      surveyvalue: {a: [1, 2]}
";

/// The good file with one line (counted from 1) replaced by these lines.
fn with_line(line: usize, replacement: &str) -> String {
    let lines = GOOD.lines().enumerate();
    lines.map(|(at, text)| format!("{}\n", if at + 1 == line { replacement } else { text })).collect()
}

/// The problems of a text, one a line, without the long common beginnings of paths.
fn problems(text: &str) -> String {
    let problems = read(text).expect_err("the file has a problem");
    let shown: Vec<_> = problems.iter().map(|problem| problem.to_string()).collect();
    shown
        .join("\n")
        .replace("orgs.main_bootstrap_orgs[].", "")
        .replace("projects.main_bootstrap_projects[].", "")
        .replace("regular_users.main_bootstrap_regular_users[].", "")
}

#[test]
fn a_good_file_is_read_whole() {
    let file = read(GOOD).unwrap();
    let [org] = &file.orgs[..] else { panic!("one org") };
    assert_eq!(org.name, Located { value: "Harbour".to_owned(), line: 4 });
    assert_eq!((org.contact.value.as_str(), org.contact.line), ("office@example.org", 5));
    assert_eq!((org.creator.value.as_str(), org.creator.line), ("ines@example.org", 6));
    assert_eq!(org.logo.as_ref().unwrap().value.bytes(), b"\x89PNG\r\n\x1a\n");

    let [project] = &file.projects[..] else { panic!("one project") };
    assert_eq!((project.name.value.as_str(), project.org_name.value.as_str()), ("Lights", "Harbour"));
    assert_eq!(project.org_ref_mismatch, Some(Located { value: "Elsewhere".to_owned(), line: 17 }));
    assert_eq!(project.logo.as_ref().unwrap().value.kind().media_type(), "image/jpeg");

    let [user] = &file.users[..] else { panic!("one user") };
    assert_eq!((user.email.value.as_str(), user.email.line), ("ada@example.org", 21));
    assert_eq!(user.name.as_ref().unwrap().value, "Ada");
    assert_eq!(user.password.as_ref().unwrap().line, 22);
    assert!(user.avatar.is_some());
    let harbour = "Harbour".to_owned();
    let lights = Some("Lights".to_owned());
    assert_eq!(
        user.bindings,
        [
            BootstrapBinding { role: Role::User, org_name: harbour.clone(), project_name: lights, line: 26 },
            BootstrapBinding { role: Role::Admin, org_name: harbour, project_name: None, line: 28 },
        ]
    );
}

#[test]
fn what_nobody_takes_is_reported() {
    let text = format!("{}extra: [1]\n", with_line(7, "        colour: red"));
    let skipped: Vec<_> = read(&text).unwrap().skipped;
    let shown: Vec<_> = skipped.iter().map(|s| (s.what.as_str(), s.count, s.why, s.first_line)).collect();
    assert_eq!(
        shown,
        [
            ("orgs.main_bootstrap_orgs[].org.colour", 1, SkipReason::UnknownKey, 7),
            ("projects.main_bootstrap_projects[].projectdetails", 1, SkipReason::CampaignModule, 15),
            ("regular_users.main_bootstrap_regular_users[].surveyvalue", 1, SkipReason::CampaignModule, 29),
            ("extra", 1, SkipReason::UnknownKey, 30),
        ]
    );
}

#[test]
fn optional_parts_may_be_missing_or_empty() {
    for line in [7, 14, 22, 23, 24] {
        assert!(read(&with_line(line, "")).is_ok(), "without line {line}");
        let key = GOOD.lines().nth(line - 1).unwrap().split(':').next().unwrap();
        assert!(read(&with_line(line, &format!("{key}: ~"))).is_ok(), "with line {line} empty");
    }
    let agrees = read(&with_line(17, "        sys_account_org_ref_name: Harbour")).unwrap();
    assert_eq!(agrees.projects[0].org_ref_mismatch, None);
    let empty = "orgs: {main_bootstrap_orgs: []}\nprojects: {main_bootstrap_projects: []}\n\
                 regular_users: {main_bootstrap_regular_users: []}\n";
    assert!(read(empty).is_ok());
}

#[test]
fn each_error_names_its_line() {
    let check = |line: usize, replacement: &str, expect: &str| {
        assert_eq!(problems(&with_line(line, replacement)), expect, "line {line}: {replacement}");
    };
    // Keys that must be there.
    check(
        2,
        "  other:",
        "line 2: orgs.main_bootstrap_orgs: missing: write a list\n\
        line 13: project.org_name: no org of this file is named `Harbour`\n\
        line 28: newaccounts.new_user_roles[].org_name: no org of this file is named `Harbour`",
    );
    check(
        4,
        "",
        "line 5: org.name: missing: write a name\n\
        line 13: project.org_name: no org of this file is named `Harbour`\n\
        line 28: newaccounts.new_user_roles[].org_name: no org of this file is named `Harbour`",
    );
    check(5, "        contact:", "line 5: org.contact: missing: write an e-mail address");
    check(6, "", "line 4: org.creator_id: missing: write an e-mail address");
    check(13, "", "line 11: project.org_name: missing: write a name");
    check(21, "", "line 22: newaccounts.email: missing: write an e-mail address");
    check(26, "          - who: 2", "line 26: newaccounts.new_user_roles[].role: missing: write a number");
    check(27, "", "line 26: newaccounts.new_user_roles[]: a role needs a project_name or an org_name");
    // Wrong types.
    check(
        1,
        "orgs: []\nold:",
        "line 1: orgs: a list stands where a mapping should\n\
        line 14: project.org_name: no org of this file is named `Harbour`\n\
        line 29: newaccounts.new_user_roles[].org_name: no org of this file is named `Harbour`",
    );
    check(5, "        contact: [a@example.org]", "line 5: org.contact: a list stands where a text should");
    check(12, "        creator_id: {a: b}", "line 12: project.creator_id: a mapping stands where a text should");
    check(
        26,
        "          - role: '2'",
        "line 26: newaccounts.new_user_roles[].role: a text stands where a number should",
    );
    check(
        28,
        "          - none",
        "line 28: newaccounts.new_user_roles[]: a text or number stands where a mapping should",
    );
    // Values.
    let email = "not an e-mail address: write it as name@example.org";
    check(5, "        contact: office", &format!("line 5: org.contact: {email}"));
    check(21, "        email: nobody", &format!("line 21: newaccounts.email: {email}"));
    check(22, "        password: short", "line 22: newaccounts.password: a password has at least 10 characters");
    let role = "line 26: newaccounts.new_user_roles[].role:";
    let known = "write 1 (GUEST), 2 (USER) or 3 (ADMIN)";
    for number in ["0", "5", "-1", "2.0", "ADMIN", "02"] {
        check(
            26,
            &format!("          - role: {number}"),
            &format!("{role} no role has the number `{number}`: {known}"),
        );
    }
    check(
        26,
        "          - role: 4",
        &format!(
            "{role} 4 (SUPERADMIN) is no role in an org or project: write 3 (ADMIN); \
        the server's setup command makes a superadmin"
        ),
    );
    check(
        11,
        "        name: \"a\\nb\"",
        "line 11: project.name: not a name: write 1 to 100 characters in one line\n\
        line 27: newaccounts.new_user_roles[].project_name: no project of this file is named `Lights`",
    );
    // Pictures.
    check(
        7,
        "        logo_upload_bytes: iVBOR*",
        "line 7: org.logo_upload_bytes: not base64: write the picture's bytes \
        in the standard alphabet, with or without padding",
    );
    check(
        14,
        "        logo_upload_bytes: R0lGODlh",
        "line 14: project.logo_upload_bytes: the picture is neither PNG nor JPEG",
    );
    let large = format!("iVBORw0KGgo{}", "A".repeat(350_000));
    check(
        24,
        &format!("        avatar_upload_bytes: {large}"),
        "line 24: newaccounts.avatar_upload_bytes: \
        the picture has 262508 bytes, more than 262144: make it smaller",
    );
    // References.
    check(13, "        org_name: Elsewhere", "line 13: project.org_name: no org of this file is named `Elsewhere`");
    check(
        27,
        "            project_name: Boats",
        "line 27: newaccounts.new_user_roles[].project_name: \
        no project of this file is named `Boats`",
    );
    check(
        28,
        "          - {role: 1, org_name: \"\\e[2J\"}",
        "line 28: newaccounts.new_user_roles[].org_name: not a name: \
        write 1 to 100 characters in one line",
    );
    // Twice.
    check(
        5,
        "        contact: a@example.org\n        contact: b@example.org",
        "line 6: `contact`: the key stands twice, \
        first on line 5: remove one",
    );
    check(
        28,
        "          - {role: 1, project_name: Lights}",
        "line 28: newaccounts.new_user_roles[]: `Lights` stands twice, \
        first on line 26",
    );
    check(
        29,
        "    - newaccounts: {email: ADA@example.org, new_user_roles: [{role: 1, org_name: Harbour}]}",
        "line 29: newaccounts.email: `ada@example.org` stands twice, first on line 21",
    );
    check(
        8,
        "    - org: {name: ' Harbour', contact: a@example.org, creator_id: b@example.org}\nprojects:",
        "line 8: org.name: `Harbour` stands twice, first on line 4",
    );
    check(
        18,
        "    - project: {name: Lights, creator_id: b@example.org, org_name: Harbour}\nregular_users:",
        "line 18: project.name: `Lights` stands twice, first on line 11",
    );
    check(
        28,
        "          - {role: 1, project_name: Lights, org_name: Pier}\n          - {role: 1, org_name: Pier}",
        "line 28: newaccounts.new_user_roles[].org_name: no org of this file is named `Pier`\n\
         line 29: newaccounts.new_user_roles[].org_name: no org of this file is named `Pier`",
    );
}

#[test]
fn a_role_holds_in_one_place_of_the_file() {
    let pier = "    - org: {name: Pier, contact: a@example.org, creator_id: b@example.org}\nprojects:";
    let text = with_line(8, pier).replace("- role: 2", "- org_name: Pier\n            role: 2");
    assert_eq!(
        problems(&text),
        "line 27: newaccounts.new_user_roles[].org_name: the project belongs to the org `Harbour`: \
         write that one or leave the org out"
    );
    let agrees = with_line(27, "            project_name: Lights\n            org_name: Harbour");
    let binding = read(&agrees).unwrap().users[0].bindings[0].clone();
    assert_eq!(binding, read(GOOD).unwrap().users[0].bindings[0]);
    let none = with_line(25, "        new_user_roles: []\n        other:");
    assert_eq!(problems(&none), "line 25: newaccounts.new_user_roles: missing: write at least one role");
    let twice_on_a_line = "      {newaccounts: {email: b@example.org, new_user_roles: [{role: 1, org_name: Harbour}, {role: 2, org_name: Harbour}]}}";
    assert_eq!(
        problems(&with_line(29, &format!("    -\n{twice_on_a_line}"))),
        "line 30: newaccounts.new_user_roles[]: `Harbour` stands twice, first on line 30"
    );
}

#[test]
fn what_is_no_yaml_names_its_line() {
    let check = |text: &str, expect: &str| assert_eq!(problems(text), expect, "{text}");
    check("", "line 1: file: nothing stands where a mapping should");
    check("- a\n- b\n", "line 1: file: a list stands where a mapping should");
    check("a: [1\nb: 2", "line 2: file: not YAML: illegal placement of ':' indicator");
    check("a: b: c", "line 1: file: not YAML: mapping values are not allowed in this context");
    check("orgs: x\n---\norgs: y\n", "line 2: file: a second document begins: one file holds one document");
    check("a: &a [1]\nb: *a\n", "line 1: file: anchors and aliases are not read: write the value out");
    check("a: *a\n", "line 1: file: anchors and aliases are not read: write the value out");
    check("? [a]\n: b\n", "line 1: file: a list stands where a key should");
}

#[test]
fn no_file_is_too_much_work() {
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(problems(&deep), "line 1: file: nested more than 32 deep");
    assert_eq!(problems(&"[".repeat(100_000)), "line 1: file: nested more than 32 deep");
    assert_eq!(problems(&"- ".repeat(100_000)), "line 1: file: nested more than 32 deep");
    assert_eq!(problems(&"- 1\n".repeat(500_001)), "line 500001: file: more than 500000 values: split the file by org");
    assert_eq!(
        problems(&" ".repeat(MAX_FILE_BYTES + 1)),
        "line 1: file: the file has 33554433 bytes, more than 33554432: split it by org"
    );
    let bomb = "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n";
    assert_eq!(problems(bomb), "line 1: file: anchors and aliases are not read: write the value out");
}

#[test]
fn reports_are_bounded() {
    let unknown: String = (0..1000).map(|at| format!("key{at}: 1\n")).collect();
    let skipped = read(&format!("{GOOD}{unknown}")).unwrap().skipped;
    assert_eq!(skipped.len(), fields::MAX_SKIPPED + 1);
    assert_eq!(skipped.iter().map(|skipped| skipped.count).sum::<usize>(), 1002);

    let wrong: String = (0..1000).map(|_| "    - org: 1\n").collect();
    let problems = read(&with_line(8, &format!("{wrong}projects:"))).unwrap_err();
    assert_eq!(problems.len(), fields::MAX_PROBLEMS + 1);
    assert_eq!(problems.last().unwrap().to_string(), "line 108: file: more than 100 problems: the rest is not shown");
}

#[test]
fn no_password_is_ever_shown() {
    let file = read(&with_line(22, "        password: correct horse")).unwrap();
    assert!(!format!("{file:?}").contains("horse"));
    for broken in [
        "        password: {horse: 1}",
        "        password: horse",
        "        password: *horse",
        "        password: 'horse",
    ] {
        assert!(!problems(&with_line(22, broken)).contains("horse"), "{broken}");
    }
}

#[test]
fn a_file_cannot_write_to_a_terminal() {
    let text = with_line(28, "          - {role: 1, project_name: \"\\u202e\\u200bx\"}\n          - {\"\\e[2J\": 1}");
    let shown = problems(&text);
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown}");
    assert!(!shown.contains('\u{202e}'), "{shown}");
}

/// A file of the repository or beside it, if it is there.
fn file_at_root(path: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).ok()
}

#[test]
fn the_demo_organisation_is_read_whole() {
    let file = read(&file_at_root("demo/bootstrap.yaml").expect("the demo's file is part of the project")).unwrap();
    let bindings = file.users.iter().flat_map(|user| &user.bindings);
    assert_eq!((file.orgs.len(), file.projects.len(), file.users.len(), bindings.clone().count()), (2, 5, 24, 41));
    assert!(file.users.iter().all(|user| user.password.is_none()), "the demo's passwords are drawn at import");
    for org in &file.orgs {
        let mut admins = bindings.clone().filter(|b| b.role == Role::Admin && b.project_name.is_none());
        assert!(admins.any(|binding| binding.org_name == org.name.value), "{} has an admin", org.name.value);
    }
    assert_eq!(file.projects.iter().filter(|project| project.org_ref_mismatch.is_some()).count(), 1);
}

#[test]
fn the_real_organisation_is_read_whole() {
    let Some(text) = file_at_root("../shared/org-y/bootstrap.yaml") else {
        eprintln!("not run: the real organisation's file is not beside this work tree");
        return;
    };
    let file = read(&text).unwrap();
    let bindings: Vec<_> = file.users.iter().flat_map(|user| &user.bindings).collect();
    let with_role = |role| bindings.iter().filter(|binding| binding.role == role).count();
    assert_eq!((file.orgs.len(), file.projects.len(), file.users.len(), bindings.len()), (3, 6, 20, 20));
    assert_eq!((with_role(Role::Admin), with_role(Role::User)), (11, 9));
    assert!(bindings.iter().all(|binding| binding.project_name == bindings[0].project_name));
    assert!(file.users.iter().all(|user| user.password.is_some() && user.avatar.is_some()));
    assert!(
        file.orgs.iter().all(|org| org.logo.is_some()) && file.projects.iter().all(|project| project.logo.is_some())
    );
    assert!(file.projects.iter().all(|project| project.org_ref_mismatch.is_some()));
    let skipped: Vec<_> =
        file.skipped.iter().map(|skipped| (skipped.what.as_str(), skipped.count, skipped.why)).collect();
    assert_eq!(
        skipped,
        [
            ("projects.main_bootstrap_projects[].projectdetails", 6, SkipReason::CampaignModule),
            ("projects.main_bootstrap_projects[].surveyschema", 6, SkipReason::CampaignModule),
            ("regular_users.main_bootstrap_regular_users[].surveyvalue", 20, SkipReason::CampaignModule),
        ]
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}|[-a-z:?&*!|>'\"%@{}\\[\\], \\n\\t#~]{0,200}") {
        let _ = read(&text);
    }

    /// Lines of a good file, some left out, doubled, moved or pushed to the side: closer to what goes wrong by hand.
    #[test]
    fn no_shuffled_file_makes_the_reader_panic(lines in prop::collection::vec((0..29_usize, 0..4_usize), 0..60)) {
        let good: Vec<_> = GOOD.lines().collect();
        let text: String = lines.iter().map(|(line, indent)| format!("{}{}\n", " ".repeat(*indent), good[*line])).collect();
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| problem.line >= 1 && problem.line <= lines.len() + 1));
        }
    }
}
