//! What the control group of a process tells: its container and its systemd unit.
//!
//! Runtimes name a group after the container's id, 64 hex digits (a task of ECS on Fargate: 32
//! and a number), either as a folder of its own or, where systemd makes the groups, as a scope
//! with the runtime before the id:
//!
//! ```text
//! /docker/<id>   /ecs/<task>/<id>   /kubepods/burstable/pod<uid>/<id>
//! /system.slice/docker-<id>.scope   /machine.slice/libpod-<id>.scope/container
//! /kubepods.slice/…/cri-containerd-<id>.scope
//! ```

/// Where a process belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Placement {
    /// Id of its container.
    pub(crate) container: Option<String>,
    /// What runs the container.
    pub(crate) runtime: Option<String>,
    /// Its systemd unit; of a container's processes, nothing.
    pub(crate) unit: Option<String>,
}

/// Longest name kept of a unit, which the file system bounds as well.
const NAME_BYTES_MAX: usize = 255;

/// Ends of names of units that processes run in (man 5 systemd.unit); slices only hold others.
const UNITS: [&str; 2] = [".service", ".scope"];

/// Runtimes by the word before the id in a scope, and by a folder above it. Helpers of a runtime
/// (`crio-conmon-<id>.scope`) are not in the container.
const RUNTIMES: [(&str, &str); 11] = [
    ("docker", "docker"),
    ("cri-containerd", "containerd"),
    ("containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("k8s.io", "containerd"),
    ("crio", "crio"),
    ("libpod", "podman"),
    ("libpod_parent", "podman"),
    ("podman", "podman"),
    ("buildkit", "buildkit"),
    ("ecs", "ecs"),
];

/// The placement that a file like `/proc/<pid>/cgroup` tells: `number:controllers:path`, a line
/// for each hierarchy. Where both versions are there, either may know the container.
pub(crate) fn of_process(text: &str) -> Placement {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some((controllers, of_path(path)))
    });
    let mut all = Placement::default();
    for (controllers, one) in lines {
        if one.container.is_some() {
            return one;
        }
        // Units are those of version 2 and of systemd's own hierarchy.
        if all.unit.is_none() && matches!(controllers, "" | "name=systemd") {
            all = one;
        }
    }
    all
}

/// The path of a process in the version 2 hierarchy, as the same file tells it.
pub(crate) fn unified_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The placement that the path of a group tells.
pub(crate) fn of_path(path: &str) -> Placement {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    // The innermost, where a container runs containers.
    for (at, name) in names.iter().enumerate().rev() {
        let above = names.get(..at).unwrap_or_default();
        if let Some((runtime, id)) = container(name, above) {
            return Placement {
                container: Some(id.to_owned()),
                runtime: runtime.map(str::to_owned),
                unit: None,
            };
        }
    }
    let unit = names
        .iter()
        .rev()
        .find(|name| UNITS.iter().any(|end| name.ends_with(end)));
    Placement {
        unit: unit
            .filter(|name| name.len() <= NAME_BYTES_MAX)
            .map(|name| (*name).to_owned()),
        ..Placement::default()
    }
}

/// Runtime and id, if a group is a container's.
fn container<'a>(name: &'a str, above: &[&str]) -> Option<(Option<&'static str>, &'a str)> {
    let scope = name.strip_suffix(".scope");
    let (word, id) = match scope.unwrap_or(name).rsplit_once('-') {
        Some((word, id)) if is_id(id) => (Some(word), id),
        _ => (None, name),
    };
    match word {
        Some(word) => Some((Some(runtime(word)?), id)),
        None if is_id(id) || (is_task_id(id) && above.contains(&"ecs")) => {
            let of_folder = above.iter().rev().find_map(|folder| runtime(folder));
            let in_pod = || above.iter().any(|folder| folder.starts_with("kubepods"));
            Some((of_folder.or_else(|| in_pod().then_some("kubernetes")), id))
        }
        None => None,
    }
}

fn runtime(word: &str) -> Option<&'static str> {
    let known = RUNTIMES.iter().find(|(known, _)| *known == word);
    known.map(|(_, runtime)| *runtime)
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// `<32 hex digits>-<number>`.
fn is_task_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32
            && is_hex(task)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e8f0c2b1a49d7a6e5c4b3d2f1e0a99887766554433221100ffeeddccbbaa0";

    #[track_caller]
    fn check(path: &str, container: Option<(&str, &str)>, unit: Option<&str>) {
        let path = path.replace("<id>", ID);
        let found = of_path(&path);
        assert_eq!(
            (found.container.as_deref(), found.runtime.as_deref()),
            match container {
                Some((runtime, id)) => (
                    Some(if id == "<id>" { ID } else { id }),
                    (!runtime.is_empty()).then_some(runtime)
                ),
                None => (None, None),
            },
            "{path}"
        );
        assert_eq!(found.unit.as_deref(), unit, "{path}");
    }

    #[test]
    fn containers_of_every_runtime() {
        let id = |runtime| Some((runtime, "<id>"));
        check("/system.slice/docker-<id>.scope", id("docker"), None);
        check("/docker/<id>", id("docker"), None);
        check("/docker/<id>/init.scope", id("docker"), None);
        check("/docker/<id>/system.slice/cron.service", id("docker"), None);
        check("/system.slice/nerdctl-<id>.scope", id("containerd"), None);
        check("/k8s.io/<id>", id("containerd"), None);
        check("/machine.slice/libpod-<id>.scope", id("podman"), None);
        check(
            "/machine.slice/libpod-<id>.scope/container",
            id("podman"),
            None,
        );
        check("/libpod_parent/libpod-<id>", id("podman"), None);
        check(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<id>.scope",
            id("podman"),
            None,
        );
        check(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-<id>.scope",
            id("containerd"),
            None,
        );
        check(
            "/kubepods.slice/kubepods-pod1_2.slice/crio-<id>.scope",
            id("crio"),
            None,
        );
        check("/kubepods/besteffort/pod1-2/<id>", id("kubernetes"), None);
        check("/ecs/0123456789abcdef/<id>", id("ecs"), None);
        check(
            "/ecs/t/0123456789abcdef0123456789abcdef-4711",
            Some(("ecs", "0123456789abcdef0123456789abcdef-4711")),
            None,
        );
        check(
            "/ecstasks.slice/ecstasks-1.slice/docker-<id>.scope",
            id("docker"),
            None,
        );
        check("/<id>", id(""), None);
        check("/docker/<id> (deleted)", id("docker"), None);
        let outer = "a".repeat(64);
        check(&format!("/docker/{outer}/docker/<id>"), id("docker"), None);
    }

    #[test]
    fn what_only_looks_like_a_container() {
        check("/", None, None);
        check("", None, None);
        check("/system.slice/docker.service", None, Some("docker.service"));
        check(
            "/machine.slice/libpod-conmon-<id>.scope",
            None,
            Some(&format!("libpod-conmon-{ID}.scope")),
        );
        check(
            "/kubepods.slice/crio-conmon-<id>.scope",
            None,
            Some(&format!("crio-conmon-{ID}.scope")),
        );
        check("/docker/3f4e8f0c2b1a", None, None);
        check(&format!("/docker/{}", "g".repeat(64)), None, None);
        check("/t/0123456789abcdef0123456789abcdef-4711", None, None);
        check("/ecs/t/0123456789abcdef0123456789abcdef-", None, None);
        check(&format!("/{}.service", "x".repeat(300)), None, None);
    }

    #[test]
    fn units_of_systemd() {
        check("/system.slice/sshd.service", None, Some("sshd.service"));
        check("/init.scope", None, Some("init.scope"));
        check(
            "/user.slice/user-1000.slice/session-3.scope",
            None,
            Some("session-3.scope"),
        );
        check(
            "/user.slice/user-0.slice/user@0.service/app.slice/app-x.service",
            None,
            Some("app-x.service"),
        );
        check(
            "/system.slice/system-getty.slice/getty@tty1.service",
            None,
            Some("getty@tty1.service"),
        );
        check("/user.slice", None, None);
    }

    #[test]
    fn either_version_may_know_the_container() {
        let docker = format!("5:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n");
        assert_eq!(of_process(&docker).container.as_deref(), Some(ID));
        assert_eq!(unified_path(&docker), Some("/"));
        let unit = "5:memory:/x.service\n1:name=systemd:/system.slice/a.service\n0::/\n";
        assert_eq!(of_process(unit).unit.as_deref(), Some("a.service"));
        let second = format!("0::/system.slice/docker-{ID}.scope\n");
        assert_eq!(of_process(&second).runtime.as_deref(), Some("docker"));
        assert_eq!(of_process("nonsense\n1:2"), Placement::default());
        assert_eq!(unified_path("1:cpu:/a\n"), None);
    }
}
