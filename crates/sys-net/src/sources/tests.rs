//! Who is counted as whom, and who makes room for whom.

use super::*;
use std::net::Ipv6Addr;

impl Sources {
    fn is_empty(&self) -> bool {
        let open = self.locked();
        open.networks.is_empty() && open.neighbourhoods.is_empty()
    }
}

impl<K> Holders<K> {
    fn is_empty(&self) -> bool {
        self.of.is_empty() && self.by_count.is_empty()
    }
}

fn sources(most: usize) -> Arc<Sources> {
    Arc::new(Sources::new(most))
}

/// Address `n` of different neighbourhoods.
fn far(n: u8) -> IpAddr {
    IpAddr::from([198, 51, n, 7])
}

/// An address in /56 `n` of one /48.
fn near(n: u16) -> IpAddr {
    Ipv6Addr::from([0x2001, 0xdb8, 1, n << 8, 0, 0, 0, 9]).into()
}

/// How often room is made until there is none.
fn made(sources: &Sources, address: IpAddr) -> usize {
    (0..10_000).take_while(|_| sources.make_room(address) == Room::Made).count()
}

#[test]
fn a_source_has_so_many_connections_and_no_more_and_leaves_nothing_behind() {
    let sources = sources(2);
    let count = |address: &str| sources.count(address.parse().expect("an address"));
    let (first, second) = (count("2001:db8::1"), count("2001:db8:0:ff::2"));
    assert!(first.is_some() && second.is_some());
    assert!(count("2001:db8:0:7::3").is_none(), "as many networks as one customer likes are one source");
    let others = [count("2001:db8:0:100::1"), count("192.0.2.1"), count("::ffff:192.0.2.1")];
    assert!(others.iter().all(Option::is_some));
    assert!(count("192.0.2.1").is_none(), "an address is itself in both of its forms");
    drop(first);
    assert!(count("2001:db8::3").is_some());
    drop((second, others));
    assert!(sources.is_empty());
}

#[tokio::test]
async fn who_has_most_makes_room_for_who_has_few() {
    let sources = sources(100);
    let greedy: Vec<_> = (0..20).map(|_| sources.count(far(1)).unwrap()).collect();
    let modest: Vec<_> = (0..11).map(|_| sources.count(far(2)).unwrap()).collect();
    assert_eq!(sources.make_room(far(1)), Room::TooMany);
    assert_eq!(sources.make_room(far(3)), Room::Made);
    greedy[19].is_to_leave().await;
    // Who was told does not count any more, and is not told twice.
    assert_eq!([2, 3].map(|n| sources.make_room(far(n))), [Room::TooMany, Room::Made]);
    greedy[18].is_to_leave().await;
    assert_eq!(made(&sources, far(3)), 10 + 3, "until nobody has many more than he");
    assert_eq!(sources.make_room(far(3)), Room::None);
    drop((greedy, modest));
    assert!(sources.is_empty());
}

#[tokio::test]
async fn a_neighbourhood_that_has_few_in_each_of_its_networks_makes_room_too() {
    let sources = sources(100);
    // All networks of one /48, with so few each that none of them has many.
    let held: Vec<_> = (0..128).flat_map(|n| [n; FEW]).map(|n| sources.count(near(n)).unwrap()).collect();
    assert_eq!(sources.make_room(near(200)), Room::TooMany, "for its own it waits for nobody's place");
    assert_eq!(sources.make_room(far(1)), Room::Made);
    held.last().unwrap().is_to_leave().await;
    assert_eq!(made(&sources, far(1)), 128 * FEW - 1 - FEW_AROUND);
    assert_eq!(sources.make_room(far(1)), Room::None, "but neighbours keep some between them");
    // Who left and who was told leave nothing behind.
    drop(held);
    assert!(sources.is_empty());
}

#[test]
fn neighbours_who_have_few_keep_their_places_when_one_of_them_has_most() {
    let sources = sources(100);
    let _modest: Vec<_> = (1..=3).map(|n| sources.count(near(n)).unwrap()).collect();
    let _greedy: Vec<_> = (0..60).map(|_| sources.count(near(0)).unwrap()).collect();
    assert_eq!(made(&sources, far(1)), 60 - FEW);
    let open = sources.locked();
    assert_eq!([0, 1, 2, 3].map(|n| open.networks.count(Network::of(near(n)))), [FEW, 1, 1, 1]);
}

/// The model: all connections in a list.
#[test]
fn who_has_most_is_known_whatever_comes_and_goes() {
    let sources = sources(usize::MAX);
    let mut held: Vec<(u8, Counted)> = Vec::new();
    let mut state = 1_u32;
    for _ in 0..4_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [choice, n, ..] = state.to_be_bytes();
        let n = n % 13;
        if choice < 150 {
            held.push((n, sources.count(far(n)).unwrap()));
        } else if !held.is_empty() {
            held.swap_remove(usize::from(n) % held.len());
        }
        let of = |n| held.iter().filter(|(holder, _)| *holder == n).count();
        let most = (0..13).map(of).max().unwrap();
        let open = sources.locked();
        assert_eq!(open.networks.by_count.last().map_or(0, |(count, _)| *count), most);
        assert!((0..13).all(|n| open.networks.count(Network::of(far(n))) == of(n)));
    }
}
