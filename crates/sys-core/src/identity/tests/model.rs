//! Random people do random things to each other's roles, two at a time, and what must never happen is looked for after each
//! step in the rows themselves. The oracle knows the promises and none of the code.

use super::bed::{Bed, NOW, Person, TestTurn};
use crate::{
    identity::{
        Held, InvitationKey, Scope,
        wire::{Binding, Invitation, OneTimeToken, Principal, Session},
    },
    refusal::Refusal,
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use sys_contract::{
    id::{AccountId, OrgId},
    model::Role,
};

/// Accounts: two who found orgs, three who do not, a superadmin at the end.
const PEOPLE: usize = 6;

/// What somebody tries. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Deed {
    Invite { whom: usize, scope: usize, role: usize },
    Accept { which: usize },
    Withdraw { which: usize },
    Assign { whom: usize, scope: usize, role: usize, ends: bool },
    Revoke { whom: usize, scope: usize },
    Suspend { whom: usize, org: usize, suspend: bool },
    Remove { whom: usize, org: usize },
    Join { scope: usize },
    Disable { whom: usize, disable: bool },
    Delete { whom: usize },
}

fn deed() -> impl Strategy<Value = (usize, Deed)> {
    let one = || 0_usize..12;
    let deed = prop_oneof![
        4 => (one(), one(), one()).prop_map(|(whom, scope, role)| Deed::Invite { whom, scope, role }),
        6 => one().prop_map(|which| Deed::Accept { which }),
        1 => one().prop_map(|which| Deed::Withdraw { which }),
        6 => (one(), one(), one(), prop::bool::weighted(0.2))
            .prop_map(|(whom, scope, role, ends)| Deed::Assign { whom, scope, role, ends }),
        4 => (one(), one()).prop_map(|(whom, scope)| Deed::Revoke { whom, scope }),
        2 => (one(), one(), any::<bool>()).prop_map(|(whom, org, suspend)| Deed::Suspend { whom, org, suspend }),
        3 => (one(), one()).prop_map(|(whom, org)| Deed::Remove { whom, org }),
        1 => one().prop_map(|scope| Deed::Join { scope }),
        1 => (one(), any::<bool>()).prop_map(|(whom, disable)| Deed::Disable { whom, disable }),
        2 => one().prop_map(|whom| Deed::Delete { whom }),
    ];
    (0..PEOPLE, deed)
}

struct World {
    bed: Bed,
    people: Vec<Person>,
    orgs: Vec<OrgId>,
    scopes: Vec<Scope>,
}

/// All rows that the promises are about.
struct State {
    held: Vec<Held>,
    principals: Vec<Principal>,
    invitations: Vec<Invitation>,
}

impl World {
    async fn new() -> Self {
        let bed = Bed::new().await;
        let mut people = Vec::new();
        for number in 0..PEOPLE - 1 {
            people.push(bed.person(&format!("p{number}")).await);
        }
        let orgs = vec![bed.org(&people[0]).await, bed.org(&people[1]).await];
        people[4] = bed.person_managed_by("managed", Some(orgs[0])).await;
        people.push(bed.superadmin().await);
        let mut scopes: Vec<Scope> = orgs.iter().map(|org| Scope::Org(*org)).collect();
        scopes.extend(orgs.iter().map(|org| Scope::Project(*org, bed.project())));
        Self { bed, people, orgs, scopes }
    }

    async fn state(&self) -> State {
        let held = self.bed.all::<Binding>().await.iter().map(|row| row.held().unwrap()).collect();
        State { held, principals: self.bed.all().await, invitations: self.bed.all().await }
    }

    async fn try_deed(
        &self,
        who: usize,
        deed: &Deed,
        waiting: &[Invitation],
        turn: &mut TestTurn<'_>,
    ) -> Result<(), Refusal> {
        let person = |whom: usize| self.people[whom % PEOPLE].clone();
        let scope = |scope: usize| self.scopes[scope % self.scopes.len()];
        let org = |org: usize| self.orgs[org % self.orgs.len()];
        let role = |role: usize| [Role::Admin, Role::User, Role::Guest, Role::Admin, Role::Superadmin][role % 5];
        match deed.clone() {
            Deed::Invite { whom, scope: at, role: r } => {
                turn.invite(&person(whom).email, scope(at), role(r)).await.map(drop)
            }
            Deed::Accept { which } => {
                // Mostly his own, else anybody's.
                let email = self.people[who].email.as_str();
                let own: Vec<&Invitation> = waiting.iter().filter(|row| row.email == email).collect();
                let any: Vec<&Invitation> = if own.is_empty() { waiting.iter().collect() } else { own };
                let Some(row) = any.get(which % any.len().max(1)) else { return Ok(()) };
                turn.accept(&InvitationKey::Id(row.id.parse().unwrap())).await.map(drop)
            }
            Deed::Withdraw { which } => {
                let Some(row) = waiting.get(which % waiting.len().max(1)) else { return Ok(()) };
                turn.withdraw(row.org_id.parse().unwrap(), row.id.parse().unwrap()).await
            }
            Deed::Assign { whom, scope: at, role: r, ends } => {
                let ends = ends.then_some(NOW + 100);
                turn.assign_role(person(whom).account, scope(at), role(r), ends).await.map(drop)
            }
            Deed::Revoke { whom, scope: at } => turn.revoke_role(person(whom).account, scope(at)).await,
            Deed::Suspend { whom, org: at, suspend } => {
                turn.set_suspended(person(whom).account, org(at), suspend).await
            }
            Deed::Remove { whom, org: at } => turn.remove_member(person(whom).account, org(at)).await,
            Deed::Join { scope: at } => turn.join_open_project(self.scopes[2 + at % 2]).await.map(drop),
            Deed::Disable { whom, disable } => turn.set_disabled(person(whom).account, disable).await,
            // Mostly one's own: others' is refused.
            Deed::Delete { whom } => {
                let whom = if whom % 3 == 0 { whom } else { who };
                turn.remove_account(person(whom).account).await
            }
        }
    }

    /// Does two deeds on one snapshot, as two requests that come at once; whoever loses runs again.
    async fn at_once(&self, deeds: &[(usize, Deed); 2]) {
        let before = self.state().await;
        let [(first, left), (second, right)] = deeds;
        let (who, other) = (&self.people[*first], &self.people[*second]);
        let waiting = &before.invitations;
        let (one, done_one) =
            self.bed.begin(Some(who), NOW, async |turn| self.try_deed(*first, left, waiting, turn).await).await;
        let (two, done_two) =
            self.bed.begin(Some(other), NOW, async |turn| self.try_deed(*second, right, waiting, turn).await).await;
        if done_one.is_ok() {
            one.commit().await.unwrap();
            self.check(&before, &self.state().await, who, left).await;
        }
        let between = self.state().await;
        let lost = done_two.is_ok() && super::bed::conflicts(two).await;
        if lost {
            let again = self.bed.act(other, async |turn| self.try_deed(*second, right, waiting, turn).await).await;
            drop(again);
        }
        self.check(&between, &self.state().await, other, right).await;
    }

    /// What must never happen.
    async fn check(&self, before: &State, after: &State, actor: &Person, deed: &Deed) {
        let good = |account: AccountId| {
            let id = account.record().text("principal");
            after.principals.iter().any(|row| row.id == id && row.verified && !row.disabled)
        };
        for org in &self.orgs {
            let scope = Some(Scope::Org(*org));
            let stays = after.held.iter().any(|held| {
                held.scope == scope && held.role == Role::Admin && !held.suspended && held.expires_unix_s.is_none()
            });
            assert!(stays, "an org lost its last admin by {deed:?}");
        }
        let supers = |state: &State| state.held.iter().filter(|held| held.role == Role::Superadmin).count();
        // None is made; the last one may not even delete himself.
        assert_eq!((supers(before), supers(after)), (1, 1), "{deed:?}");
        for held in &after.held {
            assert_eq!(held.role == Role::Superadmin, held.scope.is_none(), "{deed:?}");
            self.check_given(before, held, actor, deed);
        }
        let per_place: BTreeSet<_> =
            after.held.iter().map(|held| (held.account, format!("{:?}", held.scope))).collect();
        assert_eq!(per_place.len(), after.held.len(), "two roles of one account at one place by {deed:?}");
        self.check_orphans(after, deed).await;
        for person in &self.people {
            let counts = after.held.iter().filter(|held| held.account == person.account && !held.suspended).count();
            let loaded = self.bed.bindings(person).await.map_or(0, |bindings| bindings.len());
            assert!(loaded == 0 || loaded == counts, "the gate sees what is stored");
            assert!(loaded == 0 || good(person.account), "a disabled account holds something after {deed:?}");
        }
    }

    /// A role that is new or higher was given by an admin of its place to a member of the org, or taken up by its owner.
    fn check_given(&self, before: &State, held: &Held, actor: &Person, deed: &Deed) {
        let Some(scope) = held.scope else { return };
        let same_place = |old: &&Held| old.account == held.account && old.scope == held.scope;
        let old = before.held.iter().find(same_place);
        if old.is_some_and(|old| old.role >= held.role && old.suspended <= held.suspended) {
            return;
        }
        if held.account == actor.account {
            let invited = before.invitations.iter().any(|row| {
                let (org, project) = (scope.org().to_string(), scope.project().map(|project| project.to_string()));
                row.email == actor.email.as_str() && row.org_id == org && row.project_id == project.unwrap_or_default()
            });
            let lawful = matches!(deed, Deed::Accept { .. }) && invited || matches!(deed, Deed::Join { .. });
            assert!(lawful, "{deed:?} gave its doer a role");
            return;
        }
        let member = before.held.iter().any(|old| old.account == held.account && in_org(old, scope.org()));
        assert!(member, "{deed:?} put a stranger into an org");
        let administers = before.held.iter().any(|own| {
            let at = own.scope == Some(Scope::Org(scope.org())) || own.scope == Some(scope);
            own.account == actor.account && at && own.role >= Role::Admin && own.role >= held.role && !own.suspended
        });
        assert!(administers, "{deed:?} gave a role without holding it");
    }

    async fn check_orphans(&self, after: &State, deed: &Deed) {
        let accounts: BTreeSet<String> = after
            .principals
            .iter()
            .map(|row| sys_contract::id::RecordId::parse(&row.id, "principal").unwrap().text("account"))
            .collect();
        let mut named: Vec<String> = after.held.iter().map(|held| held.account.to_string()).collect();
        named.extend(after.invitations.iter().map(|row| row.invited_by.clone()));
        named.extend(self.bed.all::<Session>().await.into_iter().map(|row| row.account_id));
        named.extend(self.bed.all::<OneTimeToken>().await.into_iter().map(|row| row.account_id));
        assert!(named.iter().all(|account| accounts.contains(account)), "{deed:?} left an orphan");
    }
}

fn in_org(held: &Held, org: OrgId) -> bool {
    held.scope.is_some_and(|scope| scope.org() == org)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_people_do_to_each_other_the_promises_hold(deeds in prop::collection::vec([deed(), deed()], 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            for pair in &deeds {
                world.at_once(pair).await;
            }
        });
    }
}
