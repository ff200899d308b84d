//! Logs of RDS and Aurora databases into the sorter: as files that were downloaded, as exports of CloudWatch
//! Logs, packed or not.
//!
//! Which database a file is of is read off its path, unless an export says so: a folder named after the log
//! group (`…/rds/instance/<id>/…`), the folder above `error` or `audit` as downloads have it, the folder of a
//! log stream, or the file's own name.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use picket_detect::logs::rds::{Cut, Export, Objects};
use picket_detect::logs::{Database, Login, LoginLog, LoginReader, Place, RdsLogError};

use crate::source::files::{self, OpenLog};
use crate::source::inflate::{Input, InputError};
use crate::source::limits::{CHUNK_BYTES, DATABASES_READ_MAX};
use crate::source::lines::Lines;
use crate::source::sort::Kind;
use crate::source::{Origin, Record, Report, Sorter};
use crate::usage::{Owner, Source, Usage};

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Files read.
    pub files: u64,
    /// Their bytes, inflated.
    pub bytes: u64,
    /// Lines, or messages of exports.
    pub lines: u64,
    /// Connections that they tell of.
    pub logins: u64,
    /// Lines that could not be read.
    pub refused: u64,
}

/// What of a database no log tells.
#[derive(Debug, Clone, Default)]
pub struct Whence {
    /// Account of databases whose path and log do not name one.
    pub account: Option<String>,
    /// Region, alike.
    pub region: Option<String>,
    /// Identifier of the DB instance, whatever path and log say.
    pub instance: Option<String>,
}

/// Reads logs of databases.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was read so far.
    pub totals: Totals,
    /// How much of what account and day.
    pub(crate) usage: Usage,
    whence: Whence,
    /// By database: what came in at the end of one file may go on in the next.
    readers: BTreeMap<Database, LoginReader>,
    told: Vec<Login>,
    /// Of the line before.
    last_bytes: usize,
}

impl Reader {
    /// Reads logs of databases of which this is known.
    pub fn new(whence: Whence) -> Self {
        Self {
            whence,
            ..Self::default()
        }
    }

    /// Reads the file or folder at `path`; `names` gives each file its number.
    ///
    /// # Errors
    /// Those of the sorter. What is wrong with files is reported.
    pub fn read(
        &mut self,
        path: &Path,
        names: &mut Vec<PathBuf>,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        // Names of rotated logs end in an hour or a number: every file counts.
        let count = files::for_each_open(path, &[], names, report, &mut |log, report| {
            self.read_file(log, sorter, report)
        })?;
        self.totals.files += count;
        Ok(())
    }

    /// Says that no file will follow: tells connections that nothing came of.
    ///
    /// # Errors
    /// Those of the sorter.
    pub fn finish(&mut self, sorter: &mut Sorter) -> io::Result<()> {
        for reader in self.readers.values_mut() {
            reader.finish(&mut self.told);
        }
        self.note(0, 0);
        self.totals.logins += self.told.len() as u64;
        push(std::mem::take(&mut self.told), Origin::default(), sorter)
    }

    fn read_file(
        &mut self,
        log: OpenLog<'_>,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let OpenLog {
            path: file,
            number,
            mut input,
        } = log;
        let mut told = |place, why| report.fault(file, place, why);
        let broken = self.take(&mut input, file, &mut told, &mut |place, logins| {
            let Place { byte, line } = place;
            let origin = Origin {
                file: number,
                byte,
                line,
            };
            push(logins, origin, sorter)
        })?;
        if let Some((place, error)) = broken {
            report.fault(file, place, error);
        }
        self.totals.bytes += input.inflated();
        Ok(())
    }

    /// Reads what `input` has to its end; `path` says which database it is of, unless the log does: `told` hears
    /// what is wrong with it, `each` gets the logins with the place that told of them. Returns where and why
    /// the input broke off, if it did.
    ///
    /// # Errors
    /// Those of `each`, which end it.
    pub(crate) fn take(
        &mut self,
        input: &mut Input,
        path: &Path,
        told: &mut dyn FnMut(Option<Place>, String),
        each: &mut dyn FnMut(Place, Vec<Login>) -> io::Result<()>,
    ) -> io::Result<Option<(Option<Place>, InputError)>> {
        let database = database_of(path);
        let mut form = None;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut broken = None;
        loop {
            let read = match input.read(&mut chunk) {
                Ok(read) => read,
                Err(error) => {
                    broken = Some((form.as_ref().map(Form::here), error));
                    break;
                }
            };
            let part = &chunk[..read];
            let form = form.get_or_insert_with(|| Form::of(part));
            let mut take = |place: Place, piece: Piece<'_>| {
                if let Err(why) = self.piece(piece, &database) {
                    self.totals.refused += 1;
                    told(Some(place), why);
                }
                self.hand_on(place, each)
            };
            // An empty read is the end.
            match form {
                Form::Lines(lines) => lines.push(part, read == 0, &mut |place, line| {
                    take(place, line.map_or_else(Piece::Wrong, Piece::Line))
                })?,
                Form::Objects(objects) => {
                    let mut each = |place, cut: Cut<'_>| take(place, Piece::Cut(cut));
                    objects.push(part, &mut each)?;
                    if read == 0 {
                        objects.finish(&mut each)?;
                    }
                }
            }
            if read == 0 {
                break;
            }
        }
        for reader in self.readers.values_mut() {
            reader.pause(&mut self.told);
        }
        self.note(0, 0);
        let here = form.as_ref().map_or(Place { byte: 0, line: 1 }, Form::here);
        self.hand_on(here, each)?;
        Ok(broken)
    }

    /// Takes a piece of a file in, or says what is wrong with it.
    fn piece(&mut self, piece: Piece<'_>, database: &Database) -> Result<(), String> {
        match piece {
            Piece::Wrong(why) => Err(why),
            Piece::Line(line) => self.line(line, database.clone()),
            Piece::Cut(Cut::Long) => Err("an object too long for an export".to_owned()),
            Piece::Cut(Cut::Other) => Err("neither an object nor between two".to_owned()),
            Piece::Cut(Cut::Unfinished) => Err("ends in the middle of an object".to_owned()),
            Piece::Cut(Cut::Object(json)) => {
                let export = Export::parse(json).map_err(|error| error.to_string())?;
                let mut wrong = None;
                for message in export.messages {
                    let of = joined(&message.database, database);
                    for line in message.text.lines() {
                        if let Err(why) = self.line(line.as_bytes(), of.clone()) {
                            self.totals.refused += u64::from(wrong.is_some());
                            wrong.get_or_insert(why);
                        }
                    }
                }
                wrong.map_or(Ok(()), Err)
            }
        }
    }

    fn line(&mut self, line: &[u8], mut database: Database) -> Result<(), String> {
        let given = |known: &mut String, given: &Option<String>, is_final: bool| {
            if let Some(given) = given
                && (is_final || known.is_empty())
            {
                known.clone_from(given);
            }
        };
        given(&mut database.account, &self.whence.account, false);
        given(&mut database.region, &self.whence.region, false);
        given(&mut database.instance, &self.whence.instance, true);
        self.totals.lines += 1;
        if self.readers.len() >= DATABASES_READ_MAX && !self.readers.contains_key(&database) {
            return Err(format!("more than {DATABASES_READ_MAX} databases"));
        }
        let reader = self.readers.entry(database);
        let reader = reader.or_insert_with_key(|database| LoginReader::new(database.clone()));
        let before = self.told.len();
        let read: Result<(), RdsLogError> = reader.line(line, &mut self.told);
        self.note(before, line.len());
        self.last_bytes = line.len();
        read.map_err(|error| error.to_string())
    }

    /// Counts the logins from there on, told by a line of so many bytes, or by the one before it.
    fn note(&mut self, from: usize, bytes: usize) {
        for login in self.told.iter().skip(from) {
            let of = Owner {
                account: &login.database.account,
                region: &login.database.region,
            };
            let bytes = match login.log {
                // Told once the next line shows that it was one.
                LoginLog::Postgres => self.last_bytes,
                LoginLog::MysqlAudit | LoginLog::MysqlError => bytes,
            };
            self.usage.note(Source::Rds, of, login.time_ns, bytes);
        }
    }

    fn hand_on(
        &mut self,
        place: Place,
        each: &mut dyn FnMut(Place, Vec<Login>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.told.is_empty() {
            return Ok(());
        }
        self.totals.logins += self.told.len() as u64;
        each(place, std::mem::take(&mut self.told))
    }
}

fn push(logins: Vec<Login>, origin: Origin, sorter: &mut Sorter) -> io::Result<()> {
    logins.into_iter().try_for_each(|login| {
        sorter.push(&Record {
            time_ns: login.time_ns,
            kind: Kind::Login,
            origin,
            bytes: &serde_json::to_vec(&login)?,
        })
    })
}

/// How a file is cut.
enum Form {
    Lines(Lines),
    Objects(Objects),
}

impl Form {
    /// By its first bytes: exports are JSON, and no line of a log begins so.
    fn of(begin: &[u8]) -> Self {
        match begin.trim_ascii_start().first() {
            Some(b'{' | b'[') => Self::Objects(Objects::default()),
            _ => Self::Lines(Lines::default()),
        }
    }

    fn here(&self) -> Place {
        match self {
            Self::Lines(lines) => lines.here(),
            Self::Objects(objects) => objects.here(),
        }
    }
}

/// A piece of a file.
enum Piece<'a> {
    Line(&'a [u8]),
    Cut(Cut<'a>),
    Wrong(String),
}

/// What an export says of a database, and what the path says where it does not.
fn joined(told: &Database, path: &Database) -> Database {
    let first = |one: &String, other: &String| if one.is_empty() { other } else { one }.clone();
    Database {
        account: first(&told.account, &path.account),
        region: first(&told.region, &path.region),
        instance: first(&told.instance, &path.instance),
        cluster: told.cluster.clone().or_else(|| path.cluster.clone()),
    }
}

/// What a path says of the database whose log stands there.
fn database_of(path: &Path) -> Database {
    let text = |component: Component<'_>| match component {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    };
    let parts: Vec<String> = path.components().filter_map(text).collect();
    let (name, folders) = match parts.split_last() {
        Some((name, folders)) => (name.as_str(), folders),
        None => ("", parts.as_slice()),
    };
    let mut database = Database::default();
    for (at, folder) in folders.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).and_then(|at| folders.get(at));
        let is_account = folder.len() == 12 && folder.bytes().all(|byte| byte.is_ascii_digit());
        if is_account {
            database.account.clone_from(folder);
        } else if is_region(folder) {
            database.region.clone_from(folder);
        } else if before(2).is_some_and(|one| one == "rds") {
            match before(1).map(String::as_str) {
                Some("instance") => database.instance.clone_from(folder),
                Some("cluster") => database.cluster = Some(folder.clone()),
                _ => {}
            }
        }
    }
    if database.instance.is_empty() {
        let folder = folders.last().map_or("", String::as_str);
        let above = folders.iter().rev().nth(1).map_or("", String::as_str);
        let stem = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let is_general = [
            "postgresql",
            "server_audit",
            "audit",
            "error",
            "mysql-error",
            "mysql-error-running",
        ];
        let ending = Path::new(name)
            .file_stem()
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        database.instance = if matches!(folder, "error" | "audit") {
            above.to_owned()
        } else if !folder.is_empty() && is_part(ending) {
            // `<log stream>/000000.gz`, as exports to S3 are written.
            stem(folder)
        } else if is_general.contains(&&*stem(name)) {
            stem(folder)
        } else {
            stem(name)
        };
    }
    database
}

/// Says whether a name is a number, as those of the parts of an export are.
fn is_part(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Says whether a folder is named after a region: `eu-west-1`, `us-gov-east-1`.
fn is_region(name: &str) -> bool {
    let mut words = name.split('-');
    let last = words.next_back().unwrap_or_default();
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let count = words.clone().count();
    matches!(last.as_bytes(), [b'1'..=b'9'])
        && (2..=3).contains(&count)
        && words.clone().all(is_word)
        && words.next().is_some_and(|first| first.len() == 2)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const FAILED: &str = "2023-11-14 22:13:20 UTC:203.0.113.9(54321):eve@shop:[7]:FATAL:  password authentication failed for user \"eve\"";
    const LOGIN: &str = "2023-11-14 22:13:10 UTC:10.0.0.5(54321):app@shop:[8]:LOG:  connection authorized: user=app database=shop";

    /// The logins in order, what was told, and the totals.
    fn read(path: &Path, whence: Whence) -> (Vec<Login>, String, Totals) {
        let (mut sorter, mut names, mut told) = (Sorter::default(), Vec::new(), Vec::new());
        let mut reader = Reader::new(whence);
        let mut report = Report::new(&mut told);
        reader
            .read(path, &mut names, &mut sorter, &mut report)
            .unwrap();
        reader.finish(&mut sorter).unwrap();
        let mut sorted = sorter.finish().unwrap();
        let mut out = Vec::new();
        while let Some(record) = sorted.next_record().unwrap() {
            assert_eq!(record.kind, Kind::Login);
            out.push(serde_json::from_slice(record.bytes).unwrap());
        }
        (out, String::from_utf8(told).unwrap(), reader.totals)
    }

    #[test]
    fn paths_name_databases() {
        let check =
            |path: &str, account: &str, region: &str, instance: &str, cluster: Option<&str>| {
                let of = database_of(Path::new(path));
                let told = (
                    &*of.account,
                    &*of.region,
                    &*of.instance,
                    of.cluster.as_deref(),
                );
                assert_eq!(told, (account, region, instance, cluster), "{path}");
            };
        check(
            "logs/shop/error/postgresql.log.2023-11-14-22",
            "",
            "",
            "shop",
            None,
        );
        check("shop/audit/server_audit.log.1", "", "", "shop", None);
        check("shop/postgresql.log", "", "", "shop", None);
        check("shop.log.gz", "", "", "shop", None);
        check(
            "b/AWSLogs/111122223333/eu-west-1/aws/rds/instance/shop/postgresql/x.gz",
            "111122223333",
            "eu-west-1",
            "shop",
            None,
        );
        check(
            "b/aws/rds/cluster/pay/audit/pay-2.audit.log.0/000000.gz",
            "",
            "",
            "pay-2",
            Some("pay"),
        );
        check("export/0a1b2c3d/shop.0/000000.gz", "", "", "shop", None);
        check(
            "us-gov-east-1/x-y-1/eu-west-x/shop.log",
            "",
            "us-gov-east-1",
            "shop",
            None,
        );
        check("", "", "", "", None);
    }

    #[test]
    fn files_of_a_folder_come_in_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let error = folder.path().join("shop/error");
        fs::create_dir_all(&error).unwrap();
        fs::write(
            error.join("postgresql.log.2023-11-14-22"),
            format!("{FAILED}\n{LOGIN}"),
        )
        .unwrap();
        let whence = Whence {
            account: Some("111122223333".into()),
            region: Some("eu-west-1".into()),
            instance: None,
        };
        let (logins, told, totals) = read(folder.path(), whence);
        let users: Vec<&str> = logins.iter().map(|one| &*one.user).collect();
        assert_eq!((users, &*told), (vec!["app", "eve"], ""));
        let of = &logins[0].database;
        assert_eq!(
            (&*of.account, &*of.region, &*of.instance),
            ("111122223333", "eu-west-1", "shop")
        );
        assert_eq!(
            (totals.files, totals.lines, totals.logins, totals.refused),
            (1, 2, 2, 0)
        );
    }

    #[test]
    fn exports_say_whose_log_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("firehose-1");
        let json = |group: &str, stream: &str, line: &str| {
            serde_json::json!({
                "messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": group, "logStream": stream,
                "logEvents": [{ "id": "1", "timestamp": 1, "message": line }],
            })
        };
        let mut packed = GzEncoder::new(fs::File::create(&file).unwrap(), Compression::fast());
        let aurora = "1700000000500000,pay-2,eve,203.0.113.9,43,0,FAILED_CONNECT,,,1045";
        let (one, two) = (
            json("/aws/rds/instance/shop/postgresql", "shop.0", FAILED),
            json("/aws/rds/cluster/pay/audit", "pay-2.audit.log", aurora),
        );
        write!(packed, "{one}{two}").unwrap();
        packed.finish().unwrap();
        let (logins, told, totals) = read(&file, Whence::default());
        assert_eq!(told, "");
        let of: Vec<(&str, Option<&str>, &str)> = logins
            .iter()
            .map(|one| {
                (
                    &*one.database.instance,
                    one.database.cluster.as_deref(),
                    &*one.database.account,
                )
            })
            .collect();
        assert_eq!(
            of,
            [
                ("shop", None, "111122223333"),
                ("pay-2", Some("pay"), "111122223333")
            ]
        );
        assert_eq!(totals.lines, 2);
    }

    #[test]
    fn an_option_names_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postgresql.log");
        fs::write(&file, FAILED).unwrap();
        let whence = Whence {
            instance: Some("prod".into()),
            ..Whence::default()
        };
        assert_eq!(read(&file, whence).0[0].database.instance, "prod");
    }

    #[test]
    fn damage_is_told_with_its_place_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.log");
        fs::write(&file, format!("words\n{FAILED}\nmore\n")).unwrap();
        let (logins, told, totals) = read(&file, Whence::default());
        assert_eq!((logins.len(), totals.refused), (1, 2));
        assert!(
            told.contains("shop.log: line 1, byte 0: no line of a database log"),
            "{told}"
        );
        let at = format!("line 3, byte {}", 6 + FAILED.len() + 1);
        assert!(told.contains(&at), "{told}");
        let file = folder.path().join("shop.json");
        let good = serde_json::json!({ "message": FAILED });
        fs::write(&file, format!("{good}\n{{\"a\":1}}\n{good}\n{{\"message\"")).unwrap();
        let (logins, told, totals) = read(&file, Whence::default());
        assert_eq!((logins.len(), totals.refused), (2, 2));
        assert!(
            told.contains("line 2, byte") && told.contains("line 4, byte"),
            "{told}"
        );
        assert!(told.contains("ends in the middle of an object"), "{told}");
    }
}
