//! A reader of RFC 5321 and RFC 3030 as they would be read aloud: all octets at once, line by line, slow and simple.
//!
//! Contract: [`read`] gives the messages that a server must take from these octets, when it accepts everybody and everything.
//! It shares nothing with the machine that it judges but the grammar of a mailbox (`mail::Address`).
//! Not here: replies, extensions that change no content and no envelope (`tests/dialogues`).

use posthouse::mail::Address;

/// What may come.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub max_message_size: usize,
    pub max_recipients: usize,
    /// Bare CR and LF become CRLF; else they refuse a message.
    pub repair: bool,
    pub nul: bool,
}

/// One message that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: String,
    pub to: Vec<String>,
    pub binary: bool,
    pub content: Vec<u8>,
}

#[derive(Default)]
struct Transaction {
    from: String,
    to: Vec<String>,
    binary: bool,
    utf8: bool,
    /// The octets of the chunks so far.
    chunks: Option<Vec<u8>>,
    /// A chunk was refused, or DATA came between chunks.
    spoiled: bool,
}

struct Reader<'a> {
    rest: &'a [u8],
    rules: Rules,
    hello: Option<Hello>,
    transaction: Option<Transaction>,
    taken: Vec<Message>,
}

#[derive(Clone, Copy, PartialEq)]
enum Hello {
    Helo,
    Ehlo,
}

pub fn read(octets: &[u8], rules: Rules) -> Vec<Message> {
    let mut reader = Reader { rest: octets, rules, hello: None, transaction: None, taken: Vec::new() };
    while reader.line().is_some() {}
    reader.taken
}

fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

impl Reader<'_> {
    /// Reads one command; nothing when there is none any more, or the session has ended.
    fn line(&mut self) -> Option<()> {
        let end = find(self.rest, b"\r\n")?;
        let line = &self.rest[..end];
        let after_line = &self.rest[end + 2..];
        let might_be_bdat = line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"BDAT");
        let too_long = line.len() + 2 > 2048;
        let forbidden = line.iter().any(|octet| [b'\r', b'\n', 0].contains(octet));
        let text = std::str::from_utf8(line);
        let before_data = self.rest;
        self.rest = after_line;
        if might_be_bdat {
            return if too_long || forbidden { None } else { self.bdat(&String::from_utf8_lossy(line)) };
        }
        if too_long || forbidden {
            return Some(());
        }
        let Ok(text) = text else { return Some(()) };
        let text = text.trim_end_matches([' ', '\t']);
        let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
        let argument = argument.trim_start_matches(' ');
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => self.greet(Hello::Ehlo, argument),
            "HELO" => self.greet(Hello::Helo, argument),
            "MAIL" => self.mail(argument),
            "RCPT" => self.rcpt(argument),
            "DATA" if argument.is_empty() => return self.data(&before_data[end..]),
            "RSET" if argument.is_empty() => self.transaction = None,
            "QUIT" if argument.is_empty() => return None,
            "GET" | "HEAD" | "POST" | "PUT" | "OPTIONS" | "CONNECT" | "PRI" => return None,
            _ => {}
        }
        Some(())
    }

    fn greet(&mut self, hello: Hello, name: &str) {
        let harmless = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if (1..=255).contains(&name.len()) && name.chars().all(harmless) {
            self.hello = Some(hello);
            self.transaction = None;
        }
    }

    fn mail(&mut self, argument: &str) {
        let (Some(hello), None) = (self.hello, &self.transaction) else { return };
        let Some((path, parameters)) = path("FROM:", argument) else { return };
        let mut transaction = Transaction { from: path.to_owned(), ..Transaction::default() };
        let mut seen = Vec::new();
        for parameter in parameters.split(' ').filter(|word| !word.is_empty()) {
            let parameter = parameter.to_ascii_uppercase();
            let keyword = parameter.split('=').next().unwrap_or_default().to_owned();
            match parameter.as_str() {
                "BODY=7BIT" | "BODY=8BITMIME" | "RET=FULL" => {}
                "BODY=BINARYMIME" => transaction.binary = true,
                "SMTPUTF8" => transaction.utf8 = true,
                _ => match parameter.strip_prefix("SIZE=").and_then(number) {
                    Some(size) if size <= self.rules.max_message_size as u128 => {}
                    _ => return,
                },
            }
            if hello == Hello::Helo || seen.contains(&keyword) {
                return;
            }
            seen.push(keyword);
        }
        if path.is_empty() || is_mailbox(path, transaction.utf8) {
            self.transaction = Some(transaction);
        }
    }

    fn rcpt(&mut self, argument: &str) {
        let (Some(hello), Some(transaction)) = (self.hello, &mut self.transaction) else { return };
        let Some((path, parameters)) = path("TO:", argument) else { return };
        let parameters = parameters.trim_matches(' ');
        let plain = parameters.is_empty();
        let never = parameters.eq_ignore_ascii_case("NOTIFY=NEVER") && hello == Hello::Ehlo;
        let amid_chunks = transaction.chunks.is_some() || transaction.spoiled;
        let full = transaction.to.len() >= self.rules.max_recipients;
        if (plain || never) && !amid_chunks && !full && is_mailbox(path, transaction.utf8) {
            transaction.to.push(path.to_owned());
        }
    }

    /// `from_data` begins with the CRLF of DATA's own line.
    fn data(&mut self, from_data: &[u8]) -> Option<()> {
        let Some(transaction) = &mut self.transaction else { return Some(()) };
        if transaction.chunks.is_some() || transaction.spoiled {
            transaction.spoiled = true;
            return Some(());
        }
        if transaction.to.is_empty() || transaction.binary {
            return Some(());
        }
        // The content ends at the first CRLF . CRLF, and before it there may be nothing but the CRLF of DATA.
        let end = find(from_data, b"\r\n.\r\n")?;
        let end_of_input = from_data.len() - end - 5;
        let content = &from_data[2.min(end)..end];
        let content = if end == 0 { Vec::new() } else { [content, b"\r\n"].concat() };
        self.rest = &self.rest[self.rest.len() - end_of_input..];
        let mut unstuffed = Vec::new();
        for line in lines(&content) {
            unstuffed.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        let transaction = self.transaction.take()?;
        self.take(transaction, unstuffed);
        Some(())
    }

    fn bdat(&mut self, line: &str) -> Option<()> {
        let line = line.trim_end_matches([' ', '\t']);
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let [verb, size, argument @ ..] = words.as_slice() else { return None };
        if !verb.eq_ignore_ascii_case("BDAT") {
            return None;
        }
        let size = number(size)?;
        let last = match argument {
            [] => Some(false),
            [word] if word.eq_ignore_ascii_case("LAST") => Some(true),
            _ => None,
        };
        let skipped_at_most = (4 * self.rules.max_message_size).max(1 << 20);
        if size > u128::from(u64::MAX) {
            return None;
        }
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        let fits = self.accepts_chunk(last, wanted);
        if !fits && wanted > skipped_at_most {
            return None;
        }
        if self.rest.len() < wanted {
            return None;
        }
        let (chunk, rest) = self.rest.split_at(wanted);
        self.rest = rest;
        if !fits {
            return Some(());
        }
        let transaction = self.transaction.as_mut()?;
        let chunks = transaction.chunks.get_or_insert_default();
        chunks.extend_from_slice(chunk);
        if last == Some(true) {
            let transaction = self.transaction.take()?;
            let content = transaction.chunks.clone().unwrap_or_default();
            self.take(transaction, content);
        } else if !transaction.binary && is_refused(chunks, self.rules, true) {
            transaction.spoiled = true;
        }
        Some(())
    }

    /// Whether a chunk is kept; if not, what becomes of its transaction.
    fn accepts_chunk(&mut self, last: Option<bool>, size: usize) -> bool {
        let Some(transaction) = &mut self.transaction else { return false };
        if last.is_none() {
            transaction.spoiled = true;
            return false;
        }
        if self.hello != Some(Hello::Ehlo) || transaction.to.is_empty() || transaction.spoiled {
            return false;
        }
        let before = transaction.chunks.as_ref().map_or(0, Vec::len);
        transaction.spoiled = before.saturating_add(size) > self.rules.max_message_size;
        !transaction.spoiled
    }

    fn take(&mut self, transaction: Transaction, content: Vec<u8>) {
        let Transaction { from, to, binary, .. } = transaction;
        let content = match binary {
            true => content,
            false if is_refused(&content, self.rules, false) => return,
            false => repaired(&content),
        };
        if content.len() <= self.rules.max_message_size {
            self.taken.push(Message { from, to, binary, content });
        }
    }
}

/// At most 20 digits, whatever they say.
fn number(digits: &str) -> Option<u128> {
    let plain = (1..=20).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    let number = if plain { digits.parse().ok() } else { None };
    number.filter(|number| *number <= u128::from(u64::MAX))
}

/// What is within the angle brackets, and what is behind them.
fn path<'a>(keyword: &str, argument: &'a str) -> Option<(&'a str, &'a str)> {
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest).strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    for (place, character) in rest.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let (inside, behind) = (&rest[..place], &rest[place + 1..]);
                let separated = behind.is_empty() || behind.starts_with(' ');
                return (head.eq_ignore_ascii_case(keyword) && separated).then_some((inside, behind));
            }
            _ => {}
        }
    }
    None
}

fn is_mailbox(path: &str, utf8: bool) -> bool {
    path.parse::<Address>().is_ok() && (utf8 || path.is_ascii())
}

/// Lines with their CRLF; the last may have none.
fn lines(mut content: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = find(content, b"\r\n") {
        lines.push(&content[..end + 2]);
        content = &content[end + 2..];
    }
    lines.push(content);
    lines
}

/// Whether this octet is a CR or LF that is not part of a CRLF.
fn is_bare(content: &[u8], place: usize) -> bool {
    match content[place] {
        b'\r' => content.get(place + 1) != Some(&b'\n'),
        b'\n' => place == 0 || content[place - 1] != b'\r',
        _ => false,
    }
}

fn is_refused(content: &[u8], rules: Rules, more_comes: bool) -> bool {
    let pending = |place: usize| more_comes && place + 1 == content.len() && content[place] == b'\r';
    let bare = (0..content.len()).any(|place| is_bare(content, place) && !pending(place));
    (bare && !rules.repair) || (content.contains(&0) && !rules.nul)
}

/// Nothing is changed where nothing is bare.
fn repaired(content: &[u8]) -> Vec<u8> {
    let mut repaired = Vec::new();
    for (place, octet) in content.iter().enumerate() {
        if is_bare(content, place) {
            repaired.extend_from_slice(b"\r\n");
        } else {
            repaired.push(*octet);
        }
    }
    repaired
}
