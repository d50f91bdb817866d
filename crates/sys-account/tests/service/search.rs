//! Finding accounts: by what, and whose.

use super::harness::{PASSWORD, Person, Server, refused};
use serde_json::{Value, json};

/// The addresses of those whom somebody finds.
async fn found(server: &Server, who: &Person, query: &str) -> Vec<String> {
    let answer = server.call(Some(who), "AccountService/SearchAccounts", json!({"query": query})).await.unwrap();
    assert_eq!(answer["nextPageToken"].as_str().unwrap_or_default(), "");
    let accounts = answer["accounts"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<String> = accounts.iter().map(|one| one["email"].as_str().unwrap().to_owned()).collect();
    found.sort_unstable();
    found
}

/// A superadmin, an org with two accounts of its own and its admin, and somebody outside.
async fn world() -> (Server, [Person; 3]) {
    let server = Server::new().await;
    let (root, admin, stranger) =
        (server.superadmin().await, server.person("admin").await, server.person("stranger").await);
    let org = server.org(&admin, "Harbour").await;
    let domains = json!({"id": org, "domains": ["harbour.example.org"]});
    server.call(Some(&root), "OrgService/SetAccountDomains", domains).await.unwrap();
    for (name, local) in [("Ada Lovelace", "ada.l"), ("Augusta King", "countess")] {
        let email = format!("{local}@harbour.example.org");
        let new = json!({"email": email, "displayName": name, "managedByOrgId": org, "password": PASSWORD});
        server.call(Some(&admin), "AccountService/CreateAccount", new).await.unwrap();
    }
    (server, [root, admin, stranger])
}

#[tokio::test]
async fn accounts_are_found_by_the_beginning_of_any_word_of_name_and_address() {
    let (server, [root, ..]) = world().await;
    let (ada, augusta) = ("ada.l@harbour.example.org", "countess@harbour.example.org");
    for (query, expect) in [
        ("love", vec![ada]),
        ("LOVELACE ada", vec![ada]),
        ("king", vec![augusta]),
        ("a king", vec![augusta]),
        ("coun", vec![augusta]),
        ("harb", vec![ada, augusta]),
        ("ada harbour.ex", vec![ada]),
        ("ada.l@harbour.example.o", vec![ada]),
        (" Ada.L@Harbour.Example.org", vec![ada]),
        ("exam", vec![ada, "admin@example.org", augusta, "root@example.org", "stranger@example.org"]),
        ("ovelace", vec![]),
        ("ada king", vec![]),
    ] {
        assert_eq!(found(&server, &root, query).await, expect, "{query}");
    }
    for query in ["a b", "  ", "@.", "one two three four five six seven eight nine"] {
        let refusal = server.call(Some(&root), "AccountService/SearchAccounts", json!({"query": query})).await;
        refused(refusal, "invalid_argument");
    }
    // Nothing of a query is a condition.
    assert!(found(&server, &root, "ada\") || true || (\"").await.is_empty());
}

#[tokio::test]
async fn nobody_finds_accounts_that_he_may_not_read() {
    let (server, [root, admin, stranger]) = world().await;
    let query = "harbour";
    let org = ["ada.l@harbour.example.org", "countess@harbour.example.org"];
    assert_eq!(found(&server, &admin, query).await, org);
    assert_eq!(found(&server, &stranger, query).await, Vec::<String>::new());
    let ada = server.log_in(org[0], PASSWORD).await.unwrap();
    assert_eq!(found(&server, &ada, query).await, org[..1]);
    for query in ["exam", "root", "stranger", "root@example.org"] {
        let of_others = |found: &[String]| found.iter().any(|email| email == "root@example.org");
        assert!(!of_others(&found(&server, &admin, query).await), "{query}");
    }
    // A whole address that somebody has, and one that nobody has.
    for (who, hidden) in [(&stranger, org[0]), (&ada, org[1]), (&admin, "root@example.org")] {
        let ask = async |query: &str| {
            server.call(Some(who), "AccountService/SearchAccounts", json!({"query": query, "pageSize": 1})).await
        };
        assert_eq!(ask(hidden).await, ask("nobody@nowhere.example.org").await, "{hidden}");
    }
    server.call(None, "AccountService/SearchAccounts", json!({"query": "ada"})).await.unwrap_err();
    assert_eq!(found(&server, &root, org[1]).await, org[1..]);
}

#[tokio::test]
async fn what_is_found_comes_page_by_page_and_follows_changes() {
    let (server, [root, admin, _]) = world().await;
    let page = async |query: &str, token: &Value| {
        let request = json!({"query": query, "pageSize": 2, "pageToken": token});
        server.call(Some(&root), "AccountService/SearchAccounts", request).await
    };
    let (mut seen, mut token) = (Vec::new(), json!(""));
    loop {
        let answer = page("example", &token).await.unwrap();
        seen.extend(answer["accounts"].as_array().cloned().unwrap_or_default());
        token = answer["nextPageToken"].clone();
        if token.is_null() {
            break;
        }
        assert_eq!(answer["accounts"].as_array().map(Vec::len), Some(2));
        refused(page("exampl", &token).await, "invalid_argument");
    }
    assert_eq!(seen.len(), 5);
    assert!(page("ada.l@harbour.example.org", &json!("")).await.unwrap()["nextPageToken"].is_null());

    let rename = json!({"account": {"id": admin.account, "displayName": "Grace Hopper"}, "updateMask": "displayName"});
    server.call(Some(&admin), "AccountService/UpdateAccount", rename).await.unwrap();
    assert_eq!(found(&server, &root, "hop").await, ["admin@example.org"]);
    server.call(Some(&admin), "AuthService/ChangeEmail", json!({"newEmail": "g.h@navy.example.org"})).await.unwrap();
    let token = server.token_for("g.h@navy.example.org").await;
    server.call(Some(&admin), "AuthService/ConfirmEmail", json!({"token": token})).await.unwrap();
    assert_eq!(found(&server, &root, "navy").await, ["g.h@navy.example.org"]);
    assert_eq!(found(&server, &root, "admin").await, Vec::<String>::new());
}
