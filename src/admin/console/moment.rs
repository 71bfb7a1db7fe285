//! Points in time as PostgreSQL writes them, in UTC.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use pgwire::types::ToSqlText;
use pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

const DAY: u64 = 86_400;

/// A `timestamptz`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub(super) SystemTime);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing that is shown happened before 1970.
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (days, seconds) = (since.as_secs() / DAY, since.as_secs() % DAY);
        let (year, month, day) = date(days);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let micros = since.subsec_micros();
        write!(f, "{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}+00")
    }
}

/// Year, month and day of a number of days since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from March 1st of the year 0, so that a leap day is the last of its year; 400 years have 146 097 days.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = day.saturating_sub(day / 1_460).saturating_add(day / 36_524).saturating_sub(day / 146_096) / 365;
    let day = day.saturating_add(year / 100).saturating_sub(year.saturating_mul(365)).saturating_sub(year / 4);
    let month = day.saturating_mul(5).saturating_add(2) / 153;
    let day = day.saturating_sub(month.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
    let (month, next) = if month < 10 { (month.saturating_add(3), 0) } else { (month.saturating_sub(9), 1) };
    (era.saturating_mul(400).saturating_add(year).saturating_add(next), month, day)
}

impl ToSql for Moment {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        <SystemTime as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

impl ToSqlText for Moment {
    fn to_sql_text(
        &self,
        _kind: &Type,
        out: &mut BytesMut,
        _options: &FormatOptions,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(self.to_string().as_bytes());
        Ok(IsNull::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_server_writes_them() {
        // select extract(epoch from timestamptz '…')
        for (seconds, micros, text) in [
            (0, 0, "1970-01-01 00:00:00.000000+00"),
            (951_827_696, 7, "2000-02-29 12:34:56.000007+00"),
            (1_709_251_199, 999_999, "2024-02-29 23:59:59.999999+00"),
            (1_709_251_200, 0, "2024-03-01 00:00:00.000000+00"),
            (4_107_542_399, 0, "2100-02-28 23:59:59.000000+00"),
            (4_107_542_400, 0, "2100-03-01 00:00:00.000000+00"),
            (1_798_761_599, 500_000, "2026-12-31 23:59:59.500000+00"),
        ] {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
            assert_eq!(Moment(moment).to_string(), text);
        }
    }
}
