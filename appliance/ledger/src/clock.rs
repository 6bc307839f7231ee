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
    fn a_fixed_clock_stands_still() {
        let clock = Clock::fixed(7);
        assert_eq!((clock.unix_seconds(), clock.unix_time()), (7, Duration::from_secs(7)));
        assert!(Clock::system().unix_seconds() > 1_700_000_000);
    }
}
