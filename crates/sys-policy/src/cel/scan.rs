//! The bounds and the grammar of a text, checked before the parser sees it.
//!
//! The parser recurses with each bracket, and its error recovery drops tokens until wrong texts nest, however flat they
//! are written; it also misreads some texts: `!!x` as `!x`, `.x` as `x`, `"\'"` with the backslash kept. So nothing reaches
//! it but short, well-formed sentences of known tokens. One pass over the text with a bounded stack of brackets, no
//! recursion. What passes may still be refused by the type check.

use super::{
    MAX_DEPTH,
    error::{CelError, unsupported},
};
use std::str::Chars;

/// Bytes of a text.
const MAX_BYTES: usize = 1024;
/// Tokens: four for each node, which is more than any sentence needs that has no idle parentheses.
const MAX_TOKENS: usize = 4 * super::MAX_NODES;

/// Which sentences pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// Those of rules and filters.
    Subset,
    /// Those of validation rules: `?:`, all arithmetic and raw strings besides.
    Validation,
}

/// Refuses a text that the parser must not see. Gives the places, in bytes, where arguments of `has` begin.
pub(super) fn scan(text: &str, language: Language) -> Result<Vec<usize>, CelError> {
    if text.len() > MAX_BYTES {
        return Err(CelError::TooLong { max: MAX_BYTES });
    }
    let mut scanner = Scanner {
        language,
        rest: text.chars(),
        length: text.len(),
        open: Vec::new(),
        before: Token::Begin,
        path_steps: 0,
        tested: Vec::new(),
    };
    for _ in 0..=MAX_TOKENS {
        if !scanner.token()? {
            scanner.end()?;
            return Ok(scanner.tested);
        }
    }
    Err(CelError::TooLarge { max: MAX_TOKENS })
}

/// What the token before was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// The beginning of the text.
    Begin,
    Name,
    /// The name `has` where it is no field.
    Has,
    /// A literal or a closing bracket: it ends a value as a name does.
    Value,
    Dot,
    /// `!` or a minus sign.
    Sign,
    /// An opening bracket.
    Open(Bracket),
    /// A binary operator or a comma.
    Operator,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Group,
    Call,
    /// The brackets of `has()`.
    Has,
    List,
    Index,
    /// Between `?` and `:`.
    Choice,
    /// Behind `:`, up to the end of what surrounds it: the parser is one deeper there.
    Otherwise,
}

struct Scanner<'a> {
    language: Language,
    rest: Chars<'a>,
    /// Of the whole text, in bytes.
    length: usize,
    /// The brackets that are to be closed; at most [`MAX_DEPTH`].
    open: Vec<Bracket>,
    before: Token,
    path_steps: usize,
    tested: Vec<usize>,
}

impl Scanner<'_> {
    /// Reads one token; false at the end.
    fn token(&mut self) -> Result<bool, CelError> {
        while self.next_if(|c| matches!(c, ' ' | '\t' | '\r' | '\n')).is_some() {}
        let Some(first) = self.rest.next() else { return Ok(false) };
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => self.name(first)?,
            '0'..='9' => self.number(first)?,
            '"' | '\'' => self.string(first, false)?,
            '(' | '[' => self.open(first)?,
            ')' | ']' => self.close(first)?,
            '.' => self.dot()?,
            '!' if self.next_if_eq('=').is_some() => self.operator("!=")?,
            '!' | '-' => self.sign(first)?,
            '=' | '&' | '|' => self.doubled(first)?,
            '<' | '>' => {
                self.next_if_eq('=');
                self.operator(if first == '<' { "<" } else { ">" })?
            }
            '+' => self.operator("+")?,
            ',' => self.comma()?,
            other => self.beyond_the_subset(other)?,
        };
        if !matches!(token, Token::Name | Token::Has | Token::Dot) {
            self.path_steps = 0;
        }
        self.before = token;
        Ok(true)
    }

    /// The next character, if it passes.
    fn next_if(&mut self, passes: impl FnOnce(&char) -> bool) -> Option<char> {
        let mut ahead = self.rest.clone();
        let next = ahead.next().filter(passes)?;
        self.rest = ahead;
        Some(next)
    }

    fn next_if_eq(&mut self, wanted: char) -> Option<char> {
        self.next_if(|c| *c == wanted)
    }

    fn end(&mut self) -> Result<(), CelError> {
        self.end_otherwise();
        match self.open.last() {
            Some(Bracket::Choice | Bracket::Otherwise) => Err(syntax("a `:` is missing")),
            Some(Bracket::Group | Bracket::Call | Bracket::Has) => Err(syntax("a `)` is missing")),
            Some(Bracket::List | Bracket::Index) => Err(syntax("a `]` is missing")),
            None if self.after_value() => Ok(()),
            None => Err(syntax("something is missing at its end")),
        }
    }

    /// Whether a value has just ended.
    fn after_value(&self) -> bool {
        matches!(self.before, Token::Name | Token::Has | Token::Value)
    }

    /// A value may begin here.
    fn value(&self, found: &str) -> Result<Token, CelError> {
        match self.before {
            Token::Name | Token::Has | Token::Value => Err(syntax(format!("an operator is missing before `{found}`"))),
            Token::Dot => Err(syntax(format!("a field's name is missing before `{found}`"))),
            Token::Begin | Token::Sign | Token::Open(_) | Token::Operator => Ok(Token::Value),
        }
    }

    fn operator(&self, found: &str) -> Result<Token, CelError> {
        if self.after_value() {
            Ok(Token::Operator)
        } else {
            Err(syntax(format!("something is missing before `{found}`")))
        }
    }

    fn name(&mut self, first: char) -> Result<Token, CelError> {
        let begin = self.length - self.rest.as_str().len() - first.len_utf8();
        let mut name = String::from(first);
        while let Some(c) = self.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if let Some(quote) = self.next_if(|c| matches!(c, '"' | '\'')) {
            return match (name.as_str(), self.language) {
                ("b", _) => self.string(quote, true),
                ("r", Language::Validation) => self.raw_string(quote),
                _ => Err(unsupported("a raw string", "write an ordinary string, with `\\\\` for a backslash")),
            };
        }
        match name.as_str() {
            "in" => self.operator("in"),
            "true" | "false" | "null" => self.value(&name),
            _ if self.before == Token::Dot => Ok(Token::Name),
            "has" => self.value("has").map(|_| Token::Has),
            _ => {
                if self.before == Token::Open(Bracket::Has) {
                    self.tested.push(begin);
                }
                self.value(&name).map(|_| Token::Name)
            }
        }
    }

    fn number(&mut self, first: char) -> Result<Token, CelError> {
        let mut number = String::from(first);
        loop {
            let exponent = number.ends_with(['e', 'E']) && !number.starts_with("0x");
            let goes_on = |c: &char| c.is_ascii_alphanumeric() || *c == '.' || (exponent && matches!(c, '+' | '-'));
            match self.next_if(goes_on) {
                Some(c) => number.push(c),
                None => break,
            }
        }
        if is_number(&number) { self.value(&number) } else { Err(syntax(format!("`{number}` is no number"))) }
    }

    fn string(&mut self, quote: char, bytes: bool) -> Result<Token, CelError> {
        let mut length = 0;
        loop {
            match self.rest.next() {
                None | Some('\n' | '\r') => return Err(syntax("a string does not end on its line")),
                Some('\\') => self.escape(quote, bytes)?,
                Some(c) if c == quote => break,
                Some(_) => {}
            }
            length += 1;
        }
        if length == 0 && self.next_if_eq(quote).is_some() {
            return Err(unsupported("a string in triple quotes", "write it on one line in `\"`"));
        }
        self.value("\"")
    }

    fn raw_string(&mut self, quote: char) -> Result<Token, CelError> {
        let mut length = 0;
        loop {
            match self.rest.next() {
                None | Some('\n' | '\r') => return Err(syntax("a string does not end on its line")),
                Some(c) if c == quote => break,
                Some(_) => length += 1,
            }
        }
        if length == 0 && self.next_if_eq(quote).is_some() {
            return Err(unsupported("a string in triple quotes", "write it on one line"));
        }
        self.value("\"")
    }

    /// In bytes the parser keeps every character as it stands but for `\x41`.
    fn escape(&mut self, quote: char, bytes: bool) -> Result<(), CelError> {
        let escaped = self.rest.next().unwrap_or(' ');
        let digits = match escaped {
            'x' if bytes => 2,
            'u' if !bytes => 4,
            '\\' | 'n' | 'r' | 't' if !bytes => 0,
            c if c == quote && !bytes => 0,
            other => {
                let instead = if bytes { "write `\\x41`" } else { ESCAPES };
                return Err(unsupported(format!("the escape `\\{}`", other.escape_debug()), instead));
            }
        };
        for _ in 0..digits {
            self.next_if(char::is_ascii_hexdigit).ok_or_else(|| syntax(format!("a `\\{escaped}` lacks digits")))?;
        }
        Ok(())
    }

    fn open(&mut self, bracket: char) -> Result<Token, CelError> {
        let bracket = match (bracket, self.before) {
            ('(', Token::Name) => Bracket::Call,
            ('(', Token::Has) => Bracket::Has,
            ('(', _) => self.value("(").map(|_| Bracket::Group)?,
            (_, Token::Name | Token::Has | Token::Value) => Bracket::Index,
            _ => self.value("[").map(|_| Bracket::List)?,
        };
        self.push(bracket)?;
        Ok(Token::Open(bracket))
    }

    fn push(&mut self, bracket: Bracket) -> Result<(), CelError> {
        if self.open.len() == MAX_DEPTH {
            return Err(CelError::TooDeep { max: MAX_DEPTH });
        }
        self.open.push(bracket);
        Ok(())
    }

    fn close(&mut self, bracket: char) -> Result<Token, CelError> {
        self.end_otherwise();
        let fits = match self.open.pop() {
            Some(Bracket::Choice | Bracket::Otherwise) => return Err(syntax("a `:` is missing")),
            Some(Bracket::Group | Bracket::Call | Bracket::Has) => bracket == ')',
            Some(Bracket::List | Bracket::Index) => bracket == ']',
            None => false,
        };
        let is_empty = matches!(self.before, Token::Open(Bracket::Call | Bracket::List));
        if !fits {
            Err(syntax(format!("`{bracket}` closes nothing")))
        } else if self.after_value() || is_empty {
            Ok(Token::Value)
        } else {
            Err(syntax(format!("something is missing before `{bracket}`")))
        }
    }

    fn comma(&mut self) -> Result<Token, CelError> {
        self.end_otherwise();
        match self.open.last() {
            Some(Bracket::Call | Bracket::List) => self.operator(","),
            _ => Err(syntax("a `,` stands outside a list")),
        }
    }

    fn beyond_the_subset(&mut self, first: char) -> Result<Token, CelError> {
        match (self.language, first) {
            (Language::Validation, '?') => {
                if self.open.last() == Some(&Bracket::Choice) {
                    return Err(syntax("a `?:` stands between `?` and `:` without parentheses"));
                }
                let token = self.operator("?")?;
                self.push(Bracket::Choice).map(|()| token)
            }
            (Language::Validation, ':') if self.open.last() == Some(&Bracket::Choice) => {
                self.open.pop();
                let token = self.operator(":")?;
                self.push(Bracket::Otherwise).map(|()| token)
            }
            (Language::Validation, '*' | '%') => self.operator(first.encode_utf8(&mut [0; 4])),
            (Language::Validation, '/') if self.rest.as_str().starts_with('/') => {
                Err(unsupported("a comment", "write it outside the expression"))
            }
            (Language::Validation, '/') => self.operator("/"),
            _ => Err(strange(first)),
        }
    }

    /// What follows a `:` ends with what surrounds it.
    fn end_otherwise(&mut self) {
        while self.open.last() == Some(&Bracket::Otherwise) {
            self.open.pop();
        }
    }

    fn dot(&mut self) -> Result<Token, CelError> {
        self.path_steps += 1;
        if !self.after_value() {
            Err(unsupported("a leading dot", "write the name without it"))
        } else if self.path_steps > MAX_DEPTH {
            Err(CelError::TooDeep { max: MAX_DEPTH })
        } else {
            Ok(Token::Dot)
        }
    }

    fn sign(&self, sign: char) -> Result<Token, CelError> {
        match (sign, self.before) {
            ('-', Token::Name | Token::Has | Token::Value) => Ok(Token::Operator),
            (_, Token::Sign) => {
                Err(unsupported(format!("`{sign}` after another sign"), "leave both out, or write parentheses"))
            }
            _ => self.value(if sign == '!' { "!" } else { "-" }).map(|_| Token::Sign),
        }
    }

    fn doubled(&mut self, sign: char) -> Result<Token, CelError> {
        let doubled = format!("{sign}{sign}");
        match self.next_if_eq(sign) {
            Some(_) => self.operator(&doubled),
            None => Err(unsupported(format!("a single `{sign}`"), format!("write `{doubled}`"))),
        }
    }
}

const ESCAPES: &str = "write one of `\\\\`, `\\n`, `\\r`, `\\t`, `\\u0041` or the escaped quote that the string is in";

/// Whether the parser's lexer takes it for one number.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(hex) = text.strip_prefix("0x") {
        let hex = hex.strip_suffix(['u', 'U']).unwrap_or(hex);
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if let Some((mantissa, exponent)) = text.split_once(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        return digits(whole) && digits(fraction) && digits(exponent);
    }
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text.strip_suffix(['u', 'U']).unwrap_or(text)),
    }
}

fn syntax(what: impl Into<String>) -> CelError {
    CelError::Syntax { what: what.into() }
}

fn strange(c: char) -> CelError {
    match c {
        '?' => unsupported("`?:`", "write two conditions and join them with `||`"),
        '{' | '}' => unsupported("a map or message", "compare the fields one by one"),
        '*' | '%' => {
            unsupported("arithmetic", "compare with a literal; only `now` plus or minus a duration is reckoned")
        }
        '/' => unsupported("`/`", "there is no division, and a comment stands outside the expression"),
        '`' => unsupported("a name in backquotes", "write plain names"),
        other => syntax(format!("`{}` stands outside a string", other.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Result<Vec<usize>, CelError> {
        super::scan(text, Language::Subset)
    }

    fn refused(text: &str) -> String {
        scan(text).expect_err(text).to_string()
    }

    #[test]
    fn ordinary_texts_pass() {
        for text in [
            "this.published",
            "a && (b || !c) && x in [\"a\", 'b', 1u, 0x1F, -2, 1.5e-3]",
            r#"title.startsWith("pl\"an\\ \u00e4") && b == b'\xff(' && a<=b && a!=b"#,
            "now - duration('1h') >= this.at",
            "f() == [] && a[0] == 1",
            "!(a) || !b",
        ] {
            assert_eq!(scan(text), Ok(Vec::new()), "{text}");
        }
    }

    #[test]
    fn the_arguments_of_has_are_found() {
        assert_eq!(scan("has(a) && !has( b.c) || this.has(d)"), Ok(vec![4, 16]));
        assert!(refused("has()").ends_with("something is missing before `)`"));
        assert!(refused("has(a, b)").ends_with("a `,` stands outside a list"));
    }

    #[test]
    fn each_bound_is_met_exactly() {
        let padded = |length: usize| format!("a{}", " ".repeat(length - 1));
        assert_eq!(scan(&padded(MAX_BYTES)), Ok(Vec::new()));
        assert_eq!(refused(&padded(MAX_BYTES + 1)), "it is longer than 1024 bytes");
        let nested = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(scan(&nested(MAX_DEPTH)), Ok(Vec::new()));
        assert_eq!(refused(&nested(MAX_DEPTH + 1)), "it is nested deeper than 16");
        assert_eq!(scan(&format!("a{}", ".a".repeat(MAX_DEPTH))), Ok(Vec::new()));
        assert_eq!(refused(&format!("a{}", ".a".repeat(MAX_DEPTH + 1))), "it is nested deeper than 16");
        assert_eq!(scan(&format!("-a{}", "+a".repeat(MAX_TOKENS / 2 - 1))), Ok(Vec::new()));
        assert_eq!(refused(&format!("-a{}", "+a".repeat(MAX_TOKENS / 2))), "it has more than 256 parts");
    }

    #[test]
    fn what_is_no_sentence_is_refused() {
        for (text, what) in [
            ("", "something is missing at its end"),
            ("a &&", "something is missing at its end"),
            ("a.", "something is missing at its end"),
            ("!", "something is missing at its end"),
            ("(a", "a `)` is missing"),
            ("f([a", "a `]` is missing"),
            ("(a]", "`]` closes nothing"),
            ("a)", "`)` closes nothing"),
            ("()", "something is missing before `)`"),
            ("a[]", "something is missing before `]`"),
            ("[1,]", "something is missing before `]`"),
            ("(a, b)", "a `,` stands outside a list"),
            ("a, b", "a `,` stands outside a list"),
            ("a b", "an operator is missing before `b`"),
            ("a \"b\"", "an operator is missing before `\"`"),
            ("f()()", "an operator is missing before `(`"),
            ("a in in b", "something is missing before `in`"),
            ("&& a", "something is missing before `&&`"),
            ("a && == b", "something is missing before `==`"),
            ("a.(b)", "a field's name is missing before `(`"),
            ("a.true", "a field's name is missing before `true`"),
            ("1.a", "`1.a` is no number"),
            ("1.", "`1.` is no number"),
            ("0x", "`0x` is no number"),
            ("1e+", "`1e+` is no number"),
            ("5u5", "`5u5` is no number"),
            ("'a", "a string does not end on its line"),
            (r#""\u12""#, r"a `\u` lacks digits"),
            ("ä", "`ä` stands outside a string"),
        ] {
            assert_eq!(refused(text), format!("it does not parse: {what}"), "{text}");
        }
    }

    #[test]
    fn what_the_parser_misreads_is_refused() {
        for (text, what) in [
            ("!!a", "`!` after another sign is not supported"),
            ("! !a", "`!` after another sign is not supported"),
            ("a == --1", "`-` after another sign is not supported"),
            ("!-1", "`-` after another sign is not supported"),
            (".a", "a leading dot is not supported"),
            ("a == .a", "a leading dot is not supported"),
            (r#""\'""#, r"the escape `\\'` is not supported"),
            (r"'\a'", r"the escape `\a` is not supported"),
            (r#"b"\"""#, "the escape `\\\\\"` is not supported"),
            (r#"r"\""#, "a raw string is not supported"),
            (r#"rb"a""#, "a raw string is not supported"),
            (r#""""a""""#, "a string in triple quotes is not supported"),
            ("'''('''", "a string in triple quotes is not supported"),
            ("a // (((", "`/` is not supported"),
            ("a ? b : c", "`?:` is not supported"),
            ("{'a': 1}", "a map or message is not supported"),
            ("`a.b`", "a name in backquotes is not supported"),
            ("a = b", "a single `=` is not supported"),
        ] {
            assert_eq!(refused(text), what, "{text}");
        }
    }

    #[test]
    fn validation_rules_have_more_sentences() {
        let scan = |text: &str| super::scan(text, Language::Validation).map(drop);
        for text in [
            "this.a ? this.b : this.c ? 'x' : 'y'",
            "f(a ? b : c, d) && (a ? b : c) == [a ? b : c, d]",
            "a ? (b ? c : d) : e",
            r#"this.matches(r"^\d{2}[(]") && r'' == r"""#,
            "this.a * 2 / 3 % 4 == 1 && this.items.all(item, item.size() > 0)",
        ] {
            assert_eq!(scan(text), Ok(()), "{text}");
        }
        for (text, what) in [
            ("a ? b", "it does not parse: a `:` is missing"),
            ("(a ? b)", "it does not parse: a `:` is missing"),
            ("f(a ? b, c)", "it does not parse: a `,` stands outside a list"),
            ("a ? b ? c : d : e", "it does not parse: a `?:` stands between `?` and `:` without parentheses"),
            ("a : b", "it does not parse: `:` stands outside a string"),
            ("a ? b : c : d", "it does not parse: `:` stands outside a string"),
            ("a ? : b", "it does not parse: something is missing before `:`"),
            ("a ? b :", "it does not parse: something is missing at its end"),
            ("a.?b", "it does not parse: something is missing before `?`"),
            ("a[?b]", "it does not parse: something is missing before `?`"),
            ("a // b", "a comment is not supported"),
            ("{'a': 1}", "a map or message is not supported"),
            (r#"r"""a""""#, "a string in triple quotes is not supported"),
            (r#"rb"a""#, "a raw string is not supported"),
            (r#"r"\""b""#, "it does not parse: an operator is missing before `\"`"),
        ] {
            assert_eq!(scan(text).expect_err(text).to_string(), what, "{text}");
        }
        let chosen = |count| format!("{}c", "a?b:".repeat(count));
        assert_eq!(scan(&chosen(MAX_DEPTH)), Ok(()));
        assert_eq!(scan(&chosen(MAX_DEPTH + 1)), Err(CelError::TooDeep { max: MAX_DEPTH }));
    }
}
