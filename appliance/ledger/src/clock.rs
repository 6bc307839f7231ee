//! What the wall clock says, and how dates are written and read. The only file that reads the wall
//! clock; everything else is handed a [`Clock`], so that tests fix it. Nothing that is decided on
//! trust asks it: that is the time ledger's (`time.rs`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of wall-clock time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Fixed(Duration),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that stands still.
    pub fn fixed(unix_seconds: u64) -> Clock {
        Clock(Source::Fixed(Duration::from_secs(unix_seconds)))
    }

    /// Time since 1970; zero where the machine believes that it is earlier.
    pub fn unix_time(&self) -> Duration {
        match self.0 {
            Source::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Source::Fixed(time) => time,
        }
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_time().as_secs()
    }
}

const DAY_S: u64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Tue, 24 Nov 2026 15:04:05 GMT`, as HTTP dates are written (RFC 9110, 5.6.7).
pub fn http_date(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / DAY_S, unix_seconds % DAY_S);
    let (year, month, day) = civil(days);
    let (weekday, month) = (WEEKDAYS[(days % 7) as usize], MONTHS[month as usize - 1]);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// `2026-11-24T15:04:05Z` (RFC 3339).
pub fn iso_8601(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / DAY_S, unix_seconds % DAY_S);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Seconds since 1970 of `2026-11-24T15:04:05Z`, as TUF writes dates; none for anything else, a
/// date that no calendar has or one before 1970 among it.
pub fn parse_iso_8601(text: &str) -> Option<u64> {
    // Twenty characters, all of them one byte long.
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|d| d.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<u64>().ok()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let unix_seconds = (days(year, month, day)? * 24 + hour) * 3600 + minute * 60 + second;
    // Whatever else is wrong with it would not be written so.
    (iso_8601(unix_seconds) == text).then_some(unix_seconds)
}

/// Days from 1 January 1970 to a day; none before. The inverse of [`civil`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: years are
/// counted from March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // From 1 March of the year 0 to 1 January 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / ERA_DAYS, shifted % ERA_DAYS);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        // As `date -u -d @N` prints them.
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(iso_8601(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(iso_8601(4_102_444_799), "2099-12-31T23:59:59Z");
        assert_eq!(iso_8601(2_147_483_648), "2038-01-19T03:14:08Z");
        assert_eq!(http_date(1_795_532_645), "Tue, 24 Nov 2026 15:04:05 GMT");
        assert_eq!(iso_8601(1_709_164_800), "2024-02-29T00:00:00Z");
        assert_eq!(iso_8601(1_677_628_800), "2023-03-01T00:00:00Z");
        // 2100 is no leap year.
        assert_eq!(iso_8601(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(iso_8601(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn dates_are_read_as_they_are_written() {
        assert_eq!(parse_iso_8601("2030-01-01T00:00:00Z"), Some(1_893_456_000));
        assert_eq!(parse_iso_8601("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_iso_8601("9999-12-31T23:59:59Z"), Some(253_402_300_799));
        // Every day of four centuries and a half, at some second of it.
        for day in 0..165_000 {
            let unix_seconds = day * DAY_S + day * 7919 % DAY_S;
            assert_eq!(parse_iso_8601(&iso_8601(unix_seconds)), Some(unix_seconds), "{day}");
        }
        for wrong in [
            "",
            "2030-01-01",
            "2030-01-01T00:00:00",
            "2030-01-01t00:00:00z",
            "2030-01-01T00:00:00.0Z",
            "2030-01-01T00:00:00+00:00",
            "2030-01-01 00:00:00Z",
            "2030-00-01T00:00:00Z",
            "2030-13-01T00:00:00Z",
            "2030-01-00T00:00:00Z",
            "2030-04-31T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2030-01-01T24:00:00Z",
            "2030-01-01T00:60:00Z",
            "2030-01-01T00:00:60Z",
            "1969-12-31T23:59:59Z",
            "+203-01-01T00:00:00Z",
            "2030-01-01T00:00:00ZZ",
            " 030-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2030-01-01T00:00:0éZ",
            "２030-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_iso_8601(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_fixed_clock_stands_still() {
        let clock = Clock::fixed(7);
        assert_eq!((clock.unix_seconds(), clock.unix_time()), (7, Duration::from_secs(7)));
        assert!(Clock::system().unix_seconds() > 1_700_000_000);
    }
}
