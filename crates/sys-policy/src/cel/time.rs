//! Points in time and spans of it, as `google.protobuf` counts them: seconds and nanoseconds.

use prost_types::Timestamp;

const NANOS_PER_SECOND: i128 = 1_000_000_000;
/// Seconds of the longest `google.protobuf.Duration`: about 10,000 years.
const MAX_DURATION_S: i128 = 315_576_000_000;

/// The time of a call, fixed when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix_s: i64,
    /// Nanoseconds of the second, 0 to 999,999,999.
    pub nanos: i32,
}

impl Now {
    /// The time that lies so many nanoseconds later; the last or first one that can be written, if that lies beyond.
    pub(crate) fn plus(self, nanos: i128) -> Self {
        let total = i128::from(self.unix_s) * NANOS_PER_SECOND + i128::from(self.nanos);
        let total = total.saturating_add(nanos);
        let seconds = total.div_euclid(NANOS_PER_SECOND).clamp(i64::MIN.into(), i64::MAX.into());
        let nanos = total.rem_euclid(NANOS_PER_SECOND);
        Self { unix_s: i64::try_from(seconds).unwrap_or_default(), nanos: i32::try_from(nanos).unwrap_or_default() }
    }

    /// How many nanoseconds lie between an earlier time and this one; negative if that is the later one.
    pub(crate) fn since(self, earlier: Self) -> i128 {
        let nanos = |time: Self| i128::from(time.unix_s) * NANOS_PER_SECOND + i128::from(time.nanos);
        nanos(self) - nanos(earlier)
    }
}

/// Nanoseconds of a `google.protobuf.Duration`.
pub(crate) fn duration_nanos(seconds: i64, nanos: i32) -> i128 {
    i128::from(seconds) * NANOS_PER_SECOND + i128::from(nanos)
}

/// Reads RFC 3339: `2026-11-22T14:00:00.5+01:00`. Leap seconds are refused: they have no number of seconds.
pub(crate) fn parse_timestamp(text: &str) -> Option<Now> {
    let (date, clock) = text.split_once('T')?;
    let (clock, offset_s) = match clock.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let (clock, offset) = clock.split_at_checked(clock.len().checked_sub(6)?)?;
            (clock, parse_offset(offset)?)
        }
    };
    let (clock, nanos) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, i32::try_from(parse_fraction(fraction, 9)?).ok()?),
        None => (clock, 0),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if year == 0 || second > 59 {
        return None;
    }
    let small = |number: u32| u8::try_from(number).ok();
    let utc =
        Timestamp::date_time(year.into(), small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?);
    Some(Now { unix_s: utc.ok()?.seconds.checked_sub(offset_s)?, nanos })
}

/// Reads what CEL's `duration()` takes: `90s`, `1h30m`, `-1.5h`, with the units h, m, s, ms, us, ns. In nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        total = total.checked_add(amount(number, unit_nanos(unit)?)?)?;
        rest = after;
    }
    (total <= MAX_DURATION_S * NANOS_PER_SECOND).then_some(sign * total)
}

fn unit_nanos(unit: &str) -> Option<i128> {
    Some(match unit {
        "h" => 3600 * NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "s" => NANOS_PER_SECOND,
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        _ => return None,
    })
}

/// `1.5` times the unit; a part of a nanosecond is refused.
fn amount(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = parse_digits(whole)?.checked_mul(unit)?;
    let fraction = parse_fraction(fraction, 18)?.checked_mul(unit)?;
    let scale = 10_i128.pow(18);
    if fraction % scale != 0 { None } else { whole.checked_add(fraction / scale) }
}

/// The fraction's digits, filled up with zeros to `places`.
fn parse_fraction(digits: &str, places: usize) -> Option<i128> {
    let zeros = places.checked_sub(digits.len())?;
    Some(parse_digits(digits)? * 10_i128.pow(u32::try_from(zeros).ok()?))
}

/// Up to 18 decimal digits and nothing else.
fn parse_digits(digits: &str) -> Option<i128> {
    let fits = (1..=18).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if fits { digits.parse().ok() } else { None }
}

/// `+01:00` in seconds.
fn parse_offset(text: &str) -> Option<i64> {
    let (sign, text) = match text.split_at_checked(1)? {
        ("+", text) => (1, text),
        ("-", text) => (-1, text),
        _ => return None,
    };
    let [hours, minutes] = numbers(text, ':', [2, 2])?;
    let fits = hours < 24 && minutes < 60;
    fits.then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// Numbers of fixed width.
fn numbers<const N: usize>(text: &str, between: char, widths: [usize; N]) -> Option<[u32; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (number, width) in found.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |unix_s, nanos| Some(Now { unix_s, nanos });
        for (text, expect) in [
            ("1970-01-01T00:00:00Z", at(0, 0)),
            ("2026-11-22T14:00:00.5+01:00", at(1_795_352_400, 500_000_000)),
            ("2024-02-29T23:59:59.000000001-00:30", at(1_709_252_999, 1)),
            ("1969-12-31T23:59:59.25Z", at(-1, 250_000_000)),
            ("9999-12-31T23:59:59Z", at(253_402_300_799, 0)),
            ("2023-02-29T00:00:00Z", None),
            ("2026-11-22", None),
            ("2026-11-22T14:00:00", None),
            ("2026-11-22 14:00:00Z", None),
            ("2026-11-22T14:00Z", None),
            ("2026-11-22T24:00:00Z", None),
            ("2026-11-22T14:00:60Z", None),
            ("2026-11-22T14:00:00.Z", None),
            ("2026-11-22T14:00:00.0000000001Z", None),
            ("2026-11-22T14:00:00+1:00", None),
            ("2026-11-22T14:00:00+24:00", None),
            ("0000-01-01T00:00:00Z", None),
            ("+026-11-22T14:00:00Z", None),
            ("2026-11-22T14:00:00ä", None),
            ("", None),
        ] {
            assert_eq!(parse_timestamp(text), expect, "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_cel() {
        for (text, expect) in [
            ("0s", Some(0)),
            ("90s", Some(90_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("1ms2us3ns", Some(1_002_003)),
            ("0.000000001s", Some(1)),
            ("0.0000000001s", None),
            ("315576000000s", Some(315_576_000_000_000_000_000)),
            ("315576000001s", None),
            ("", None),
            ("-", None),
            ("s", None),
            ("1", None),
            ("1d", None),
            ("1.s", None),
            (".5s", None),
            ("1..5s", None),
            ("1s ", None),
            ("--1s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expect, "{text}");
        }
    }

    #[test]
    fn adding_carries_and_stops_at_the_end_of_time() {
        let now = Now { unix_s: 10, nanos: 900_000_000 };
        assert_eq!(now.plus(200_000_000), Now { unix_s: 11, nanos: 100_000_000 });
        assert_eq!(now.plus(-10_900_000_001), Now { unix_s: -1, nanos: 999_999_999 });
        assert_eq!(Now { unix_s: i64::MAX, nanos: 0 }.plus(i128::MAX).unix_s, i64::MAX);
        assert_eq!(Now { unix_s: i64::MIN, nanos: 0 }.plus(i128::MIN).unix_s, i64::MIN);
    }
}
