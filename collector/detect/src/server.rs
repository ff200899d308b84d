//! Which programs serve others: who gets in through one of them acts as its child.

/// Programs that serve others, by the names of their files: web servers, what runs applications behind
/// them, databases. Chosen by hand.
pub(crate) const SERVERS: &[&str] = &[
    "apache2",
    "caddy",
    "gunicorn",
    "httpd",
    "java",
    "lighttpd",
    "mysqld",
    "nginx",
    "node",
    "php-fpm",
    "postgres",
    "puma",
    "redis-server",
    "uwsgi",
];

/// The file's name of a program, or where its path is not known the name it goes by.
pub(crate) fn file<'a>(exe: Option<&'a str>, name: &'a str) -> &'a str {
    exe.and_then(|exe| exe.rsplit('/').next()).unwrap_or(name)
}

/// The name by which a program is one of `servers`: its file's, or where that is an interpreter the one it
/// goes by.
pub(crate) fn server<'a>(
    exe: Option<&'a str>,
    name: &'a str,
    servers: &[String],
) -> Option<&'a str> {
    // Versions and workers stand behind the name: php-fpm8.2, postgres: checkpointer.
    let is_server = |name: &&str| {
        servers.iter().any(|server| {
            let rest = name.strip_prefix(server.as_str());
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        })
    };
    [file(exe, name), name].into_iter().find(is_server)
}
