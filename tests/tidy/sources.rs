//! Size, order and names of Rust sources, and what must not stand in them.

use syn::visit::{self, Visit};

use super::{File, check, rust_files};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;
const BAD_NAMES: [&str; 5] = ["utils", "util", "helpers", "common", "misc"];

/// Lines before the tests module, and of all functions; what a file lacks.
fn sizes(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines: Vec<&str> = file.text.lines().collect();
    // Data in tests may stand in strings that are wider than a line.
    let is_test = file.path.contains("/tests") || file.path.starts_with("tests/");
    let tests_at = lines.iter().position(|line| *line == "#[cfg(test)]").unwrap_or(lines.len());
    if tests_at > FILE_LINES_MAX {
        complaints.push(format!("{}: {tests_at} lines, at most {FILE_LINES_MAX}", file.path));
    }
    // What `tests.rs` beside a file owns is said by its name.
    let named_tests = file.path.ends_with("/tests.rs");
    if !file.text.starts_with("//! ") && !named_tests {
        complaints.push(format!("{}: opens without saying what it owns (//!)", file.path));
    }
    for (index, line) in lines.iter().enumerate() {
        let columns = line.chars().count();
        let data = (is_test || index >= tests_at) && line.contains('"');
        if columns > LINE_COLUMNS_MAX && !data {
            complaints.push(format!("{}:{}: {columns} columns", file.path, index + 1));
        }
    }
    let name = file.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
    if BAD_NAMES.contains(&name) || file.path.split('/').any(|part| BAD_NAMES.contains(&part)) {
        complaints.push(format!("{}: a name for what has no home", file.path));
    }
    complaints
}

/// What the syntax tree shows.
#[derive(Default)]
struct Seen {
    /// Name, first line, lines.
    functions: Vec<(String, usize, usize)>,
    unsafe_lines: Vec<usize>,
}

impl Seen {
    fn function(&mut self, name: &syn::Ident, block: &syn::Block) {
        let braces = block.brace_token.span;
        let (start, end) = (braces.open().start().line, braces.close().end().line);
        self.functions.push((name.to_string(), start, end + 1 - start));
    }
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, &item.block);
        self.unsafe_lines.extend(item.sig.unsafety.as_ref().map(|word| word.span.start().line));
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, &item.block);
        self.unsafe_lines.extend(item.sig.unsafety.as_ref().map(|word| word.span.start().line));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_lines.push(block.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.unsafe_lines.extend(item.unsafety.as_ref().map(|word| word.span.start().line));
        visit::visit_item_impl(self, item);
    }
}

fn syntax(file: &File) -> Vec<String> {
    let mut seen = Seen::default();
    match syn::parse_file(&file.text) {
        Ok(parsed) => seen.visit_file(&parsed),
        Err(error) => return vec![format!("{}: {error}", file.path)],
    }
    let long = seen.functions.iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
    let mut complaints: Vec<String> = long
        .map(|(name, line, lines)| format!("{}:{line}: {name} has {lines} lines", file.path))
        .collect();
    if !file.path.starts_with("appliance/compute/") {
        let unsafe_code =
            seen.unsafe_lines.iter().map(|line| format!("{}:{line}: unsafe", file.path));
        complaints.extend(unsafe_code);
    }
    complaints
}

/// Calls that only one crate may make, and leftovers that none may.
fn forbidden(file: &File) -> Vec<String> {
    // Put together here, so that this file keeps its own rules.
    let words = [
        (["FIX", "ME"].concat(), "a leftover"),
        (["XX", "X"].concat(), "a leftover"),
        (["todo", "!("].concat(), "a leftover"),
        (["unimplemented", "!("].concat(), "a leftover"),
        (["unreachable", "!()"].concat(), "an invariant without its reason"),
        (["#[ig", "nore"].concat(), "a test that does not run"),
        (["dbg", "!("].concat(), "a leftover"),
    ];
    let clocks = [["SystemTime::", "now"].concat(), ["Utc::", "now"].concat()];
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let at = format!("{}:{}", file.path, index + 1);
        for (word, why) in &words {
            if line.contains(word.as_str()) {
                complaints.push(format!("{at}: '{word}' is {why}"));
            }
        }
        let clock = clocks.iter().find(|clock| line.contains(clock.as_str()));
        if let Some(clock) = clock.filter(|_| !file.path.starts_with("appliance/ledger/")) {
            complaints.push(format!("{at}: '{clock}' outside of the time ledger"));
        }
    }
    complaints
}

#[test]
fn rust_sources_keep_the_house_rules() {
    let files = rust_files();
    assert!(files.len() > 50, "only {} sources were found", files.len());
    check(files.iter().flat_map(|f| [sizes(f), syntax(f), forbidden(f)].concat()).collect());
}

#[test]
fn each_source_rule_can_fail() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let noted = |path: &str, text: &str, what: &str| {
        let file = file(path, text);
        let complaints = [sizes(&file), syntax(&file), forbidden(&file)].concat().join("\n");
        assert!(complaints.contains(what), "{text:.60}: expected '{what}', got '{complaints}'");
    };
    let head = "//! A file.\n";
    noted("a/long.rs", &format!("{head}{}", "\n".repeat(600)), "601 lines");
    noted("a/headless.rs", "fn f() {}\n", "without saying");
    noted("a/wide.rs", &format!("{head}// {}\n", "x".repeat(98)), "101 columns");
    noted("a/utils.rs", head, "no home");
    noted("a/misc/b.rs", head, "no home");
    noted("a/f.rs", &format!("{head}fn f() {{\n{}}}\n", "f();\n".repeat(69)), "f has 71 lines");
    let method = format!("{head}impl A {{ fn m() {{\n{}}} }}\n", "f();\n".repeat(69));
    noted("a/m.rs", &method, "m has 71 lines");
    // The word is put in here, so that no line of this file reads as what it looks for.
    for with in ["fn f() { WORD { g() } }", "WORD fn f() {}", "WORD impl S for A {}"] {
        let code = with.replace("WORD", "unsafe");
        noted("a/u.rs", &format!("{head}{code}\n"), "unsafe");
    }
    noted("a/t.rs", &format!("{head}{}\n", ["// FIX", "ME later"].concat()), "leftover");
    noted("a/i.rs", &format!("{head}{}]\n", ["#[ig", "nore"].concat()), "does not run");
    noted("a/c.rs", &format!("{head}{}();\n", ["// SystemTime::", "now"].concat()), "ledger");
    let fine = file("a/fine.rs", "//! A file.\nfn f() {}\n");
    check([sizes(&fine), syntax(&fine), forbidden(&fine)].concat());
}
