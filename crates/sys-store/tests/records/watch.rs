//! Who watches is told what a list would show, and nothing else: each promise by itself, and all of them in `model`.

mod bed;
mod model;

use crate::harness::*;
use bed::{Bed, Fields, posts, short};
use std::{sync::Arc, time::Duration};
use sys_contract::model::Role;
use sys_keys::deterministic::SeededEntropy;
use sys_policy::{Binding, Caller};
use sys_store::{
    MAX_WATCHED, Moment, Refused, StoreError, WATCH_BEAT_S, WatchEvent, WatchRequest, check::CheckOptions,
};

fn user(bed: &Bed) -> Caller {
    caller(1, vec![bed.world.at_project(Role::User, 0)])
}

/// Of another account, seen by nobody but who works in the second project.
fn elsewhere(bed: &Bed, title: &'static str) -> prost_reflect::DynamicMessage {
    bed.post(9, 1, &Fields::titled(title))
}

fn here(bed: &Bed, title: &'static str) -> prost_reflect::DynamicMessage {
    bed.post(9, 0, &Fields::titled(title))
}

#[tokio::test]
async fn what_comes_goes_and_changes_is_told_once_and_nothing_of_what_is_hidden() {
    for kind in BOTH {
        let bed = Bed::new(kind).await;
        let user = user(&bed);
        let first = bed.create(here(&bed, "first")).await;
        let hidden = bed.create(elsewhere(&bed, "hidden")).await;
        let mut watcher = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
        assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["reset", "+first", "current"]);
        assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), [""; 0]);

        bed.change(hidden, &Fields::titled("more")).await;
        bed.create(elsewhere(&bed, "another")).await;
        bed.delete(hidden).await;
        bed.change(first, &Fields { secret: Some("unseen"), ..Fields::default() }).await;
        assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), [""; 0], "hidden before and after");

        bed.change(first, &Fields::titled("other")).await;
        let second = bed.create(here(&bed, "second")).await;
        assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["~other", "+second", "current"]);
        bed.delete(first).await;
        assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["-", "current"]);
        // Made and gone between two looks.
        let third = bed.create(here(&bed, "third")).await;
        bed.delete(third).await;
        bed.change(second, &Fields::titled("x")).await;
        bed.change(second, &Fields::titled("second")).await;
        assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), [""; 0]);
    }
}

#[tokio::test]
async fn a_filter_decides_what_is_shown_and_who_begins_to_match_is_added() {
    let bed = Bed::new(Kind::Memory).await;
    let user = user(&bed);
    let id = bed.create(here(&bed, "a")).await;
    let mut watcher = bed.watch(&user, &bed.asked(0, "open")).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["reset", "current"]);
    bed.change(id, &Fields { open: Some(true), ..Fields::default() }).await;
    assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["+a", "current"]);
    bed.change(id, &Fields { open: Some(false), ..Fields::default() }).await;
    assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["-", "current"]);
}

#[tokio::test]
async fn a_record_comes_and_goes_when_its_time_has_come_and_the_watch_says_when_to_look() {
    let mut bed = Bed::new(Kind::Memory).await;
    let guest = caller(2, vec![bed.world.at_org(Role::Guest, 0)]);
    let (open, answer) = (Some(true), Some("42"));
    let fields = Fields { open, opens: Some(10), closes: Some(20), answer, ..Fields::titled("post") };
    bed.create(bed.post(9, 0, &fields)).await;
    let mut watcher = bed.watch(&guest, &bed.asked(0, "")).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &guest).await.unwrap()), ["reset", "current"]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let wake_at = watcher.wake_at.unwrap();
        bed.now = wake_at;
        seen.push((wake_at.unix_s - NOW.unix_s, short(&watcher.follow(&bed, &guest).await.unwrap()).join(" ")));
    }
    // At the end of the last second that it is open in, the answer comes out; then it closes.
    let expected = [(10, "+post current"), (20, "~post current"), (20, "- current"), (80, "current")];
    assert_eq!(seen, expected.map(|(at, told)| (at, told.to_owned())));
}

#[tokio::test]
async fn rights_that_change_and_bindings_that_expire_are_judged_again() {
    let mut bed = Bed::new(Kind::Memory).await;
    bed.create(here(&bed, "here")).await;
    bed.create(elsewhere(&bed, "there")).await;
    let at = |project, expires_unix_s| Binding { expires_unix_s, ..bed.world.at_project(Role::User, project) };
    let soon = u64::try_from(NOW.unix_s + 30).unwrap();
    let (before, both) = (caller(1, vec![at(0, None)]), caller(1, vec![at(0, Some(soon)), at(1, None)]));
    let mut watcher = bed.watch(&before, &bed.asked(0, "")).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &before).await.unwrap()), ["reset", "+here", "current"]);
    assert_eq!(short(&watcher.follow(&bed, &both).await.unwrap()), ["+there", "current"]);
    assert_eq!(watcher.wake_at.unwrap().unix_s, NOW.unix_s + 30);
    bed.pass(30);
    assert_eq!(short(&watcher.follow(&bed, &both).await.unwrap()), ["-", "current"]);
    let nobody = caller(1, Vec::new());
    assert_eq!(short(&watcher.follow(&bed, &nobody).await.unwrap()), ["-", "current"]);
    let other = user(&bed);
    assert_eq!(watcher.shown.len(), 0);
    let stranger = caller(2, other.bindings().to_vec());
    let refused = watcher.follow(&bed, &stranger).await.unwrap_err();
    assert!(matches!(refused, Refused::Store(_)), "a watch is its caller's alone: {refused}");
}

#[tokio::test]
async fn a_token_comes_again_after_a_while_though_nothing_has_happened() {
    let mut bed = Bed::new(Kind::Memory).await;
    let user = user(&bed);
    let mut watcher = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["reset", "current"], "nothing was ever written");
    assert_eq!(watcher.wake_at.unwrap().unix_s, NOW.unix_s + WATCH_BEAT_S);
    bed.pass(WATCH_BEAT_S - 1);
    bed.create(elsewhere(&bed, "hidden")).await;
    assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), [""; 0]);
    bed.pass(1);
    assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["current"]);
}

#[tokio::test]
async fn what_is_told_ends_at_the_moment_whatever_has_been_written_since() {
    for kind in BOTH {
        let mut bed = Bed::new(kind).await;
        let user = user(&bed);
        let [kept, gone, seldom] = ["kept", "gone", "seldom"].map(|title| here(&bed, title));
        let (kept, gone) = (bed.create(kept).await, bed.create(gone).await);
        let seldom = bed.create(seldom).await;
        let mut watcher = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
        watcher.follow(&bed, &user).await.unwrap();
        // Before the moment, a change that is seen, and two that are not.
        bed.change(seldom, &Fields::titled("often")).await;
        for id in [kept, gone] {
            bed.change(id, &Fields { secret: Some("unseen"), ..Fields::default() }).await;
        }
        let moment = Moment::of(&bed.begin().await);
        let shown = bed.listed(&user, &watcher.request).await;
        // Behind it what is seen, of the same records and another.
        for title in ["changed", "again"] {
            bed.change(kept, &Fields::titled(title)).await;
        }
        bed.delete(gone).await;
        bed.create(here(&bed, "new")).await;
        assert_eq!(short(&watcher.follow_to(&bed, &user, &moment).await.unwrap()), ["~often", "current"]);
        assert_eq!(watcher.shown, shown, "as a list was at the moment");
        assert_eq!(short(&watcher.follow_to(&bed, &user, &moment).await.unwrap()), [""; 0]);
        // The token is of that moment, too.
        bed.pass(30);
        let mut again = watcher.resume(&bed, &user).await.unwrap();
        let mut told = short(&again.follow(&bed, &user).await.unwrap());
        told.sort();
        assert_eq!(told, ["+new", "-", "current", "~again"]);
    }
}

#[tokio::test]
async fn a_token_goes_on_where_it_was_given_and_says_nothing_twice() {
    for kind in BOTH {
        let mut bed = Bed::new(kind).await;
        let user = user(&bed);
        let (a, b) = (bed.create(here(&bed, "a")).await, bed.create(here(&bed, "b")).await);
        let hidden = bed.create(elsewhere(&bed, "hidden")).await;
        let mut watcher = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
        watcher.follow(&bed, &user).await.unwrap();
        bed.change(a, &Fields::titled("A")).await;
        bed.change(a, &Fields::titled("AA")).await;
        bed.delete(b).await;
        bed.delete(hidden).await;
        bed.create(here(&bed, "c")).await;
        let d = bed.create(here(&bed, "d")).await;
        bed.delete(d).await;
        bed.pass(3_000);
        let mut watcher = watcher.resume(&bed, &user).await.unwrap();
        let mut told = short(&watcher.follow(&bed, &user).await.unwrap());
        told.sort();
        assert_eq!(told, ["+c", "-", "current", "~AA"]);
        let mut watcher = watcher.resume(&bed, &user).await.unwrap();
        assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["current"]);
    }
}

#[tokio::test]
async fn a_token_goes_on_after_a_restart() {
    let mut bed = Bed::new(Kind::Redb).await;
    let user = user(&bed);
    let (a, b) = (bed.create(here(&bed, "a")).await, bed.create(here(&bed, "b")).await);
    let mut watcher = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
    watcher.follow(&bed, &user).await.unwrap();
    bed.change(a, &Fields::titled("A")).await;
    bed.restart().await;
    bed.delete(b).await;
    bed.create(elsewhere(&bed, "hidden")).await;
    let mut watcher = watcher.resume(&bed, &user).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["~A", "-", "current"]);
    assert_eq!(watcher.shown, bed.listed(&user, &watcher.request).await);
}

#[tokio::test]
async fn notes_go_after_an_hour_and_who_was_not_looking_is_told_all_that_differs() {
    for kind in BOTH {
        let mut bed = Bed::new(kind).await;
        let user = user(&bed);
        let (a, b) = (bed.create(here(&bed, "a")).await, bed.create(here(&bed, "b")).await);
        let mut watcher = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
        watcher.follow(&bed, &user).await.unwrap();
        bed.change(a, &Fields::titled("A")).await;
        bed.delete(b).await;
        // Beside these four the five of the orgs and projects.
        for seconds in [3_600, 119] {
            bed.pass(seconds);
            assert_eq!((pruned(&bed).await, noted(&bed).await), (0, 9), "as long as a token may be used");
        }
        bed.pass(1);
        assert_eq!((pruned(&bed).await, noted(&bed).await), (9, 0));
        assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), ["~A", "-", "current"]);
        // A clock that was set back does not make a token good whose notes are gone.
        let mut early = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
        early.follow(&bed, &user).await.unwrap();
        bed.change(a, &Fields::titled("AA")).await;
        bed.pass(4_000);
        assert_eq!(pruned(&bed).await, 1);
        bed.pass(-3_000);
        let mut early = early.resume(&bed, &user).await.unwrap();
        assert_eq!(short(&early.follow(&bed, &user).await.unwrap()), ["reset", "+AA", "current"]);
    }
}

#[tokio::test]
async fn notes_of_before_a_restart_go_too() {
    let mut bed = Bed::new(Kind::Redb).await;
    bed.create(here(&bed, "a")).await;
    bed.create(bed.post(9, 2, &Fields::titled("of org B"))).await;
    bed.restart().await;
    bed.pass(4_000);
    assert_eq!((pruned(&bed).await, noted(&bed).await), (7, 0));
}

#[tokio::test]
async fn a_clock_that_was_ahead_keeps_no_note_for_longer_than_an_hour() {
    for kind in BOTH {
        let mut bed = Bed::new(kind).await;
        while pruned(&bed).await > 0 {}
        let years = 10 * 365 * 86_400;
        // Ahead, and looked at while it was.
        bed.pass(years);
        let id = bed.create(here(&bed, "of a time that has not come")).await;
        assert_eq!(pruned(&bed).await, 5, "those of the orgs and projects");
        bed.pass(-years);
        bed.pass(4_000);
        assert_eq!((pruned(&bed).await, noted(&bed).await), (0, 1), "found now");
        bed.pass(3_719);
        assert_eq!(pruned(&bed).await, 0);
        bed.pass(1);
        assert_eq!((pruned(&bed).await, noted(&bed).await), (1, 0));
        // Sooner, if something behind it says that it is old.
        bed.pass(years);
        bed.change(id, &Fields::titled("ahead again")).await;
        bed.pass(-years);
        bed.change(id, &Fields::titled("and not")).await;
        assert_eq!(pruned(&bed).await, 0);
        bed.pass(3_720);
        assert_eq!((pruned(&bed).await, noted(&bed).await), (2, 0));
        // And a clock that goes back by a second is no reason to look all the time.
        bed.pass(years);
        bed.change(id, &Fields::titled("ahead")).await;
        bed.pass(-years);
        assert_eq!(pruned(&bed).await, 0);
        bed.pass(-1);
        assert_eq!(pruned(&bed).await, 0);
        bed.pass(3_720);
        assert_eq!((pruned(&bed).await, noted(&bed).await), (1, 0));
    }
}

/// Removes what is old enough, from all tables; gives how many notes went.
async fn pruned(bed: &Bed) -> u64 {
    let mut notes = 0;
    loop {
        let pruned = bed.world.store.prune_changes(bed.now).await.unwrap();
        notes += pruned.notes;
        if !pruned.more {
            return notes;
        }
    }
}

/// How many notes there are, in a store that is as it should be.
async fn noted(bed: &Bed) -> u64 {
    let report = bed.world.store.check(CheckOptions::default(), &mut |_| {}).await.unwrap();
    assert!(report.found.keys().all(|fault| !fault.is_problem()), "{report:?}");
    report.seen.changes
}

#[tokio::test]
async fn a_token_that_does_not_count_any_more_begins_anew_and_says_so() {
    let mut bed = Bed::new(Kind::Memory).await;
    let user = user(&bed);
    bed.create(here(&bed, "a")).await;
    let anew = ["reset", "+a", "current"];
    let mut watcher = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &user).await.unwrap()), anew);
    // Other rights of the same account.
    let admin = caller(1, vec![bed.world.at_project(Role::Admin, 0)]);
    let mut watcher = watcher.resume(&bed, &admin).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &admin).await.unwrap()), anew);
    // Another contract.
    let text = include_str!("contracts/posts.proto").replace("this.open && ", "");
    bed.posts = posts(&bed.world.store, &text).await;
    let mut watcher = watcher.resume(&bed, &admin).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &admin).await.unwrap()), anew);
    // An hour, whether anything was written or not.
    bed.pass(3_600);
    let mut watcher = watcher.resume(&bed, &admin).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &admin).await.unwrap()), anew);
}

#[tokio::test]
async fn a_contract_that_is_loaded_anew_is_judged_by_at_once() {
    let mut bed = Bed::new(Kind::Memory).await;
    let guest = caller(2, vec![bed.world.at_org(Role::Guest, 0)]);
    bed.create(bed.post(9, 0, &Fields { opens: Some(-10), ..Fields::titled("post") })).await;
    let mut watcher = bed.watch(&guest, &bed.asked(0, "")).await.unwrap();
    assert_eq!(short(&watcher.follow(&bed, &guest).await.unwrap()), ["reset", "current"]);
    let text = include_str!("contracts/posts.proto").replace("this.open && ", "");
    let old = std::mem::replace(&mut bed.posts, posts(&bed.world.store, &text).await);
    assert_eq!(short(&watcher.follow(&bed, &guest).await.unwrap()), ["+post", "current"]);
    // Nobody goes on under the rules of before.
    bed.posts = old;
    let refused = watcher.follow(&bed, &guest).await.unwrap_err();
    assert!(matches!(refused, Refused::Store(StoreError::Superseded { .. })), "{refused}");
}

#[tokio::test]
async fn tokens_of_others_are_refused() {
    let bed = Bed::new(Kind::Memory).await;
    let other = Bed::of(World::with_entropy(Kind::Memory, Arc::new(SeededEntropy::danger_from_seed(2))).await).await;
    let user = user(&bed);
    let mut watcher = bed.watch(&user, &bed.asked(0, "open")).await.unwrap();
    watcher.follow(&bed, &user).await.unwrap();
    let token = watcher.kept.0.clone();
    let with =
        |request: WatchRequest, resume_token: &str| WatchRequest { resume_token: resume_token.to_owned(), ..request };
    let own = bed.asked(0, "open");
    assert!(bed.watch(&user, &with(own.clone(), &token)).await.is_ok());
    let changed: String = token.chars().rev().collect();
    for wrong in [&token[1..], &token[..token.len() - 1], &changed, "x", &"A".repeat(10_000)] {
        let refused = bed.watch(&user, &with(own.clone(), wrong)).await.map(drop);
        assert!(matches!(refused, Err(Refused::ResumeToken)), "{wrong}: {refused:?}");
    }
    let project_id = bed.world.project_text(0);
    for request in [bed.asked(1, "open"), bed.asked(0, ""), WatchRequest { project_id, ..own.clone() }] {
        let refused = bed.watch(&user, &with(request.clone(), &token)).await.map(drop);
        assert!(matches!(refused, Err(Refused::ResumeToken)), "{request:?}: {refused:?}");
    }
    let stranger = caller(3, user.bindings().to_vec());
    assert!(matches!(bed.watch(&stranger, &with(own.clone(), &token)).await.map(drop), Err(Refused::ResumeToken)));
    // A server with keys of its own, asked for the same org.
    let refused = other.watch(&user, &with(own, &token)).await.map(drop);
    assert!(matches!(refused, Err(Refused::ResumeToken)), "{refused:?}");
}

#[tokio::test]
async fn many_records_come_in_parts_and_all_of_them_though_they_change_meanwhile() {
    for kind in BOTH {
        let bed = Bed::new(kind).await;
        let user = user(&bed);
        let mut ids = Vec::new();
        for _ in 0..3 {
            let mut open = bed.begin().await;
            for _ in 0..250 {
                ids.push(open.danger_unruled(&bed.posts).create(here(&bed, "a")).await.unwrap().id());
            }
            open.commit().await.unwrap();
        }
        ids.sort();
        let request = bed.asked(0, "");
        let mut watcher = bed.watch(&user, &request).await.unwrap();
        let mut parts = 0;
        for round in 0.. {
            let mut open = bed.begin().await;
            let now = Moment::of(&open);
            let batch = open.confined(&bed.posts, &user).follow(&mut watcher.watch, &now).await.unwrap();
            assert!(batch.events.len() <= 258, "{}", batch.events.len());
            batch.events.iter().for_each(|event| watcher.apply(event));
            parts += 1;
            // On both sides of where the walk stands.
            if round < 3 {
                bed.change(ids[round], &Fields::titled("b")).await;
                bed.delete(ids[749 - round]).await;
                bed.delete(ids[100 + round]).await;
            }
            if !batch.more {
                break;
            }
            let told = batch.events.iter().any(|event| matches!(event, WatchEvent::Current { .. }));
            assert!(!told, "a token for what is not complete");
        }
        assert!(parts > 3);
        assert_eq!(watcher.shown, bed.listed(&user, &request).await);
        // And all of them go at once.
        let nobody = caller(1, Vec::new());
        watcher.follow(&bed, &nobody).await.unwrap();
        assert_eq!(watcher.shown.len(), 0);
    }
}

#[tokio::test]
async fn more_than_can_be_shown_is_refused_and_hidden_records_do_not_bring_it_there() {
    let bed = Bed::new(Kind::Memory).await;
    let user = user(&bed);
    for (project, count) in [(0, MAX_WATCHED), (1, 100)] {
        let mut left = count;
        while left > 0 {
            let mut open = bed.begin().await;
            for _ in 0..left.min(1_000) {
                let post = if project == 0 { here(&bed, "a") } else { elsewhere(&bed, "a") };
                open.danger_unruled(&bed.posts).create(post).await.unwrap();
            }
            left -= left.min(1_000);
            open.commit().await.unwrap();
        }
    }
    let mut watcher = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
    watcher.follow(&bed, &user).await.unwrap();
    assert_eq!(watcher.watch.shown(), MAX_WATCHED);
    bed.create(here(&bed, "one more")).await;
    assert_eq!(refusal(watcher.follow(&bed, &user).await), "invalid filter");
    let mut anew = bed.watch(&user, &bed.asked(0, "")).await.unwrap();
    assert_eq!(refusal(anew.follow(&bed, &user).await), "invalid filter");
    let narrow = bed.watch(&user, &bed.asked(0, "title == \"one more\"")).await.unwrap().follow(&bed, &user).await;
    assert_eq!(short(&narrow.unwrap()), ["reset", "+one more", "current"]);
}

#[tokio::test]
async fn whoever_waits_hears_of_commits_to_his_table_and_org_alone() {
    for kind in BOTH {
        let bed = Bed::new(kind).await;
        let mut calls = bed.world.store.changes(&bed.posts, bed.world.orgs[0].tag());
        let quiet = async |calls: &mut sys_store::engine::Changes| {
            assert!(tokio::time::timeout(Duration::from_millis(20), calls.next()).await.is_err());
        };
        quiet(&mut calls).await;
        bed.create(bed.post(9, 2, &Fields::titled("of org B"))).await;
        quiet(&mut calls).await;
        let id = bed.create(here(&bed, "a")).await;
        tokio::time::timeout(Duration::from_secs(60), calls.next()).await.unwrap();
        bed.delete(id).await;
        tokio::time::timeout(Duration::from_secs(60), calls.next()).await.unwrap();
        quiet(&mut calls).await;
    }
}
