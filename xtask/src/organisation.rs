//! The demo's invented organisation: two orgs, their projects and people, in the earlier system's bootstrap format.
//!
//! Drawn from a fixed seed, so that the committed file can be checked against this text. Nobody in it exists: names are
//! made up, addresses lie under example.org (RFC 2606). There is no password in it; those are drawn at import.

mod picture;
mod random;

use crate::{no_arguments, root, step};
use anyhow::{Context, Result};
use random::Random;
use std::{
    fmt::{self, Write},
    fs,
    process::ExitCode,
};

pub(crate) const HELP: &str = "\
cargo xtask generate-demo

Writes demo/bootstrap.yaml, the organisation that `cargo xtask demo` imports. The same text each time.";

const FILE: &str = "demo/bootstrap.yaml";
/// Any number would do; another one gives other people.
const SEED: u64 = 2026;
/// Sides of logos and of avatars in pixels.
const LOGO_PIXELS: usize = 64;
const AVATAR_PIXELS: usize = 32;

/// Roles of the earlier system.
const GUEST: u8 = 1;
const USER: u8 = 2;
const ADMIN: u8 = 3;

struct Org {
    name: &'static str,
    domain: &'static str,
    projects: &'static [Project],
}

struct Project {
    name: &'static str,
    goal: &'static str,
    category: &'static str,
}

const ORGS: [Org; 2] = [
    Org {
        name: "Lantern Coast Trust",
        domain: "lantern.example.org",
        projects: &[
            Project { name: "Harbour Lights", goal: "Relight the three old harbour lamps", category: "heritage" },
            Project { name: "Tide Pool Survey", goal: "Count what lives between the tides", category: "environment" },
            Project { name: "Ferry for All", goal: "A ferry that anybody can board", category: "community" },
        ],
    },
    Org {
        name: "Hollow Hill Growers",
        domain: "hollowhill.example.org",
        projects: &[
            Project { name: "Seed Library", goal: "Lend seeds and get them back in autumn", category: "environment" },
            Project { name: "Winter Market", goal: "A market that stays open in the snow", category: "community" },
        ],
    },
];

/// First and last names; the first twelve people belong to the first org, the rest to the second.
const PEOPLE: [(&str, &str); 24] = [
    ("Orla", "Fennimore"),
    ("Tavi", "Brandt"),
    ("Ines", "Okonjo"),
    ("Kasimir", "Thule"),
    ("Mirela", "Ashdown"),
    ("Joss", "Varga"),
    ("Pelle", "Quillfeather"),
    ("Amara", "Lindqvist"),
    ("Dov", "Hartigan"),
    ("Sunniva", "Reyes"),
    ("Ezra", "Calloway"),
    ("Noor", "Tamsin"),
    ("Linnea", "Okafor"),
    ("Bram", "Winterbourne"),
    ("Yara", "Castellan"),
    ("Otis", "Merriweather"),
    ("Freya", "Nakamura"),
    ("Idris", "Polk"),
    ("Maren", "Delacroix"),
    ("Silas", "Ngata"),
    ("Tove", "Abernathy"),
    ("Rafi", "Stormont"),
    ("Hedda", "Marchetti"),
    ("Cato", "Bellweather"),
];
const PEOPLE_OF_FIRST_ORG: usize = 12;
/// The project of the first org in which somebody of the second works, too.
const HELPED_BY_THE_LAST: &str = "Harbour Lights";

/// What the campaign module of the earlier system asked people for.
const SUPPORT: [(&str, &str); 3] = [
    ("organiser", "Keeps the list of who comes when"),
    ("driver", "Brings people and things"),
    ("maker", "Builds what is missing"),
];

/// `cargo xtask generate-demo`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    no_arguments(arguments)?;
    fs::write(root().join(FILE), text()?).with_context(|| format!("writing {FILE}"))?;
    step::note(&format!("{FILE} is written"));
    Ok(ExitCode::SUCCESS)
}

/// The whole file.
fn text() -> Result<String, fmt::Error> {
    let mut random = Random::from_seed(SEED);
    let mut out = String::from(
        "# The demo's organisation, written by `cargo xtask generate-demo`: change the generator, not this file.\n\
         # Everybody in it is invented.\n",
    );
    orgs(&mut out, &mut random)?;
    projects(&mut out, &mut random)?;
    users(&mut out, &mut random)?;
    Ok(out)
}

fn orgs(out: &mut String, random: &mut Random) -> fmt::Result {
    out.write_str("orgs:\n  main_bootstrap_orgs:\n")?;
    for org in &ORGS {
        writeln!(out, "    - org:")?;
        writeln!(out, "        name: {}", org.name)?;
        writeln!(out, "        contact: office@{}", org.domain)?;
        writeln!(out, "        creator_id: founder@{}", org.domain)?;
        writeln!(out, "        logo_upload_bytes: {}", picture::base64(LOGO_PIXELS, random))?;
    }
    Ok(())
}

fn projects(out: &mut String, random: &mut Random) -> fmt::Result {
    out.write_str("projects:\n  main_bootstrap_projects:\n")?;
    let all = ORGS.iter().flat_map(|org| org.projects.iter().map(move |project| (org, project)));
    for (number, (org, project)) in all.enumerate() {
        // The last project's campaign part names the wrong org, as files of the earlier system do: the import reports it.
        let last = number + 1 == ORGS.iter().map(|org| org.projects.len()).sum::<usize>();
        let referred = if last { ORGS[0].name } else { org.name };
        writeln!(out, "    - project:")?;
        writeln!(out, "        name: {}", project.name)?;
        writeln!(out, "        logo_upload_bytes: {}", picture::base64(LOGO_PIXELS, random))?;
        writeln!(out, "        creator_id: founder@{}", org.domain)?;
        writeln!(out, "        org_name: {}", org.name)?;
        writeln!(out, "      projectdetails:")?;
        writeln!(out, "        goal: {}", project.goal)?;
        writeln!(out, "        category: {}", project.category)?;
        writeln!(out, "        min_pioneers: {}", 10 + random.below(90))?;
        writeln!(out, "        sys_account_project_ref_name: {}", project.name)?;
        writeln!(out, "        sys_account_org_ref_name: {referred}")?;
        writeln!(out, "      surveyschema:")?;
        writeln!(out, "        support_role_types:")?;
        for (role, comment) in &SUPPORT {
            writeln!(out, "          - name: {role}_{number}")?;
            writeln!(out, "            comment: {comment}")?;
            writeln!(out, "            unit_of_measures: hours")?;
        }
        writeln!(out, "        sys_account_project_ref_name: {}", project.name)?;
        writeln!(out, "        survey_project_name: survey_{number}")?;
    }
    Ok(())
}

fn users(out: &mut String, random: &mut Random) -> fmt::Result {
    out.write_str("regular_users:\n  main_bootstrap_regular_users:\n")?;
    for (number, (first, last)) in PEOPLE.iter().enumerate() {
        let (org, place) = match number.checked_sub(PEOPLE_OF_FIRST_ORG) {
            None => (&ORGS[0], number),
            Some(place) => (&ORGS[1], place),
        };
        let email = format!("{}.{}@{}", first.to_lowercase(), last.to_lowercase(), org.domain);
        writeln!(out, "    - newaccounts:")?;
        writeln!(out, "        email: {email}")?;
        writeln!(out, "        avatar_upload_bytes: {}", picture::base64(AVATAR_PIXELS, random))?;
        writeln!(out, "        new_user_roles:")?;
        for (role, key, name) in roles(org, place, number, random) {
            writeln!(out, "          - role: {role}")?;
            writeln!(out, "            {key}: {name}")?;
        }
        let support = random.pick(&SUPPORT).map_or("", |(support, _)| support);
        writeln!(out, "      surveyvalue:")?;
        writeln!(out, "        support_role_values:")?;
        writeln!(out, "          - support_role_type_ref_name: {support}_0")?;
        writeln!(out, "            pledged: {}", 1 + random.below(40))?;
        writeln!(out, "        survey_project_ref_name: survey_0")?;
        writeln!(out, "        sys_account_user_ref_name: {email}")?;
        writeln!(out, "        survey_user_name: survey_user_{number}")?;
    }
    Ok(())
}

/// Who does what: the first of an org is its admin, the next ones each run a project, the rest work or watch in several.
/// The very last person also helps in the other org.
fn roles(org: &Org, place: usize, number: usize, random: &mut Random) -> Vec<(u8, &'static str, &'static str)> {
    if place == 0 {
        return vec![(ADMIN, "org_name", org.name)];
    }
    let runs = org.projects.get(place - 1);
    let mut roles = Vec::new();
    for project in org.projects {
        if runs.is_some_and(|runs| runs.name == project.name) {
            roles.push((ADMIN, "project_name", project.name));
        } else if random.below(3) < 2 {
            let role = if random.below(4) == 0 { GUEST } else { USER };
            roles.push((role, "project_name", project.name));
        }
    }
    if number + 1 == PEOPLE.len() {
        roles.push((USER, "project_name", HELPED_BY_THE_LAST));
    }
    if roles.is_empty() {
        roles.extend(random.pick(org.projects).map(|project| (USER, "project_name", project.name)));
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_what_the_generator_writes() {
        let committed = fs::read_to_string(root().join(FILE)).unwrap();
        assert!(committed == text().unwrap(), "run `cargo xtask generate-demo`, or undo the change by hand");
    }

    #[test]
    fn the_file_brings_no_password_and_no_real_address() {
        let text = text().unwrap();
        assert!(!text.contains("password"));
        let addresses = text.split_whitespace().filter(|word| word.contains('@'));
        assert!(addresses.clone().count() > PEOPLE.len());
        assert!(addresses.clone().all(|address| address.ends_with(".example.org")));
    }
}
