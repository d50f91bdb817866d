//! What the page of a server says about the connection that it came over, as whoever reads it in a browser finds it.

/// What it says where the name was hidden, and where it was not.
const HIDDEN: &str = "Your network cannot see which name you asked for";
const SEEN: &str = "Your network could see the name";

/// Whether the page says that the name was hidden; nothing if it is another page.
pub(crate) fn says_hidden(page: &str) -> Option<bool> {
    match (page.contains(HIDDEN), page.contains(SEEN)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}
