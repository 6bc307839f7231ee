//! `strftime_now` for templates that print a date: Python's format letters, in UTC, for the time
//! that the caller names. Nothing here reads a clock.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A second, taken apart.
struct Moment {
    year: i64,
    /// 0 to 11.
    month: usize,
    /// 1 to 31.
    day: i64,
    /// 0 is Sunday.
    weekday: usize,
    /// 1 to 366.
    day_of_year: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

/// Last second of the year 9999, where Python's calendar ends.
const SECONDS_MAX: u64 = 253_402_300_799;

impl Moment {
    /// Civil date by counting days in 400-year eras that start on 1 March.
    fn at(unix_seconds: u64) -> Moment {
        let seconds = unix_seconds.min(SECONDS_MAX) as i64;
        let days = seconds / 86_400;
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let march_day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * march_day + 2) / 153;
        let day = march_day - (153 * march_month + 2) / 5 + 1;
        let month = (march_month + 2) % 12;
        let year = era * 400 + year_of_era + i64::from(month < 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize];
        Moment {
            year,
            month: month as usize,
            day,
            weekday: ((days + 4) % 7) as usize,
            day_of_year: before + day + i64::from(leap && month > 1),
            hour: seconds / 3_600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

/// Formats a time. Letters that Python's `strftime` does not have stand as they are.
pub(crate) fn strftime(unix_seconds: u64, format: &str) -> String {
    let moment = Moment::at(unix_seconds);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('-') => match chars.next() {
                Some(letter) => {
                    let padded = field(&moment, letter);
                    let short = padded.trim_start_matches(['0', ' ']);
                    out.push_str(if short.is_empty() { "0" } else { short });
                }
                None => out.push_str("%-"),
            },
            Some(letter) => out.push_str(&field(&moment, letter)),
            None => out.push('%'),
        }
    }
    out
}

fn field(moment: &Moment, letter: char) -> String {
    let hour12 = (moment.hour + 11) % 12 + 1;
    let month = moment.month + 1;
    match letter {
        'Y' => format!("{:04}", moment.year),
        'y' => format!("{:02}", moment.year % 100),
        'm' => format!("{month:02}"),
        'd' => format!("{:02}", moment.day),
        'e' => format!("{:2}", moment.day),
        'B' => MONTHS[moment.month].to_owned(),
        'b' | 'h' => MONTHS[moment.month][..3].to_owned(),
        'A' => DAYS[moment.weekday].to_owned(),
        'a' => DAYS[moment.weekday][..3].to_owned(),
        'w' => moment.weekday.to_string(),
        'u' => (if moment.weekday == 0 { 7 } else { moment.weekday }).to_string(),
        'j' => format!("{:03}", moment.day_of_year),
        'H' => format!("{:02}", moment.hour),
        'I' => format!("{hour12:02}"),
        'M' => format!("{:02}", moment.minute),
        'S' => format!("{:02}", moment.second),
        'f' => "000000".to_owned(),
        'p' => (if moment.hour < 12 { "AM" } else { "PM" }).to_owned(),
        'F' => format!("{:04}-{month:02}-{:02}", moment.year, moment.day),
        'D' | 'x' => format!("{month:02}/{:02}/{:02}", moment.day, moment.year % 100),
        'T' | 'X' => {
            format!("{:02}:{:02}:{:02}", moment.hour, moment.minute, moment.second)
        }
        'R' => format!("{:02}:{:02}", moment.hour, moment.minute),
        'c' => format!(
            "{} {} {:2} {:02}:{:02}:{:02} {:04}",
            &DAYS[moment.weekday][..3],
            &MONTHS[moment.month][..3],
            moment.day,
            moment.hour,
            moment.minute,
            moment.second,
            moment.year
        ),
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        // Python's naive times have no zone.
        'z' | 'Z' => String::new(),
        '%' => "%".to_owned(),
        other => format!("%{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::strftime;

    fn check(unix_seconds: u64, format: &str, expected: &str) {
        assert_eq!(strftime(unix_seconds, format), expected);
    }

    #[test]
    fn as_python_prints() {
        check(0, "%d %b %Y", "01 Jan 1970");
        check(951_782_400, "%Y-%m-%d %A %j", "2000-02-29 Tuesday 060");
        check(1_735_689_599, "%c", "Tue Dec 31 23:59:59 2024");
        check(1_735_689_599, "%j %I %p %-d/%-m %H:%M:%S", "366 11 PM 31/12 23:59:59");
        check(4_107_542_400, "%B %d, %Y %a", "March 01, 2100 Mon");
        check(u64::MAX, "%Y", "9999");
        check(0, "100%", "100%");
    }
}
