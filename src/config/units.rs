//! Durations and sizes as an operator writes them: a number and its unit, nothing implied.

use std::time::Duration;

use super::problem::Complaint;

const DURATION: &str = "a duration is a whole number with its unit (ms, s, min, h or d), such as \"250ms\" or \"10s\"";
const SIZE: &str = "a size is a whole number with its unit (B, kB, MB, GB or TB), such as \"512MB\"";

/// `250ms`, `10s`, `5min`, `1h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, Complaint> {
    let (number, unit) = split(text).ok_or_else(|| Complaint::new(DURATION))?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(Complaint::new(DURATION).suggest(Some(format!("{number}s")))),
        "m" => return Err(Complaint::new(DURATION).suggest(Some(format!("{number}min")))),
        _ => return Err(Complaint::new(DURATION)),
    };
    let millis = number.checked_mul(millis).ok_or_else(|| Complaint::new("this duration is too long"))?;
    Ok(Duration::from_millis(millis))
}

/// A duration that the kernel takes in whole seconds; `0s` stands for off.
pub(super) fn whole_seconds(text: &str) -> Result<Duration, Complaint> {
    let duration = duration(text)?;
    if duration.subsec_millis() != 0 {
        return Err(Complaint::new("this is counted in whole seconds, such as \"10s\""));
    }
    Ok(duration)
}

/// `512MB`, in the powers of 1024 that PostgreSQL's own settings use.
pub(super) fn size(text: &str) -> Result<u64, Complaint> {
    let (number, unit) = split(text).ok_or_else(|| Complaint::new(SIZE))?;
    let bytes: u64 = match unit {
        "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => {
            let right = ["B", "kB", "MB", "GB", "TB"].into_iter().find(|u| u.eq_ignore_ascii_case(unit));
            return Err(Complaint::new(SIZE).suggest(right.map(|u| format!("{number}{u}"))));
        }
    };
    number.checked_mul(bytes).ok_or_else(|| Complaint::new("this size is too large"))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        for (text, millis) in
            [("250ms", 250), ("10s", 10_000), ("5min", 300_000), ("1h", 3_600_000), ("2 d", 172_800_000)]
        {
            assert_eq!(duration(text).map(|d| d.as_millis()), Ok(millis), "{text}");
        }
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("60").unwrap_err().suggestion.as_deref(), Some("60s"));
        assert_eq!(duration("5m").unwrap_err().suggestion.as_deref(), Some("5min"));
        for bad in ["", "s", "-1s", "1.5s", "1 week", "18446744073709551615h", "99999999999999999999s", "1é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_kernel_counts_in_seconds_is_written_so() {
        assert_eq!(whole_seconds("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(whole_seconds("2000ms"), Ok(Duration::from_secs(2)));
        assert!(whole_seconds("1500ms").is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("1kB"), Ok(1024));
        assert_eq!(size("2GB"), Ok(2 << 30));
        assert_eq!(size("512mb").unwrap_err().suggestion.as_deref(), Some("512MB"));
        assert!(size("99999999999TB").is_err() && size("1").is_err());
    }
}
