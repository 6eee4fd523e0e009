//! `skiff down`: stops a cluster and removes everything it made on this machine. It works from
//! what is there, not from what was remembered, so that it also cleans up after a crash, and may
//! be run again when it was cut short.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use clap::Args;
use futures::StreamExt;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use skiff_world::World;

use crate::layout::Layout;
use crate::machine::Machine;
use crate::say::say;
use crate::spec::ClusterSpec;
use crate::supervisor::{SUPERVISOR, programs};
use crate::{Named, hosts, process};

/// What `skiff down` takes.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// Delete the cluster's data too: objects, certificates, logs.
    #[arg(long)]
    pub purge: bool,
}

/// How long the supervisor may take to stop its processes (it gives each ten seconds).
const STOP: Duration = Duration::from_secs(25);
/// How many containers are removed at a time.
const AT_ONCE: usize = 16;

/// Stops and removes.
pub async fn run(layout: Layout, options: Options) -> Result<()> {
    let world = World::real("down");
    stop_processes(&world, &layout).await?;
    let containers = remove_containers(layout.name()).await?;
    let mounts = unmount_below(&layout.dir())?;
    hosts::remove(&layout)?;
    // What nodes keep on disk (addresses, volumes, namespace files) belongs to containers that are gone.
    remove_dir(&layout.dir().join("nodes"))?;
    remove_cgroups(layout.name());
    say!("removed {containers} containers, {mounts} mounts, the cluster's namespaces and links");
    if options.purge {
        match std::fs::remove_file(layout.admin_kubeconfig()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).context("remove the administrator's kubeconfig");
            }
            _ => {}
        }
        remove_dir(&layout.dir())?;
        Machine::this(&layout).leave(&layout);
        say!("deleted {}", layout.dir().display());
    } else if layout.dir().exists() {
        say!("its data is kept in {} (`skiff down --purge` deletes it)", layout.dir().display());
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Stops the supervisor, which stops its processes; then whatever process still runs without it.
async fn stop_processes(world: &World, layout: &Layout) -> Result<()> {
    let mut names = vec![SUPERVISOR.to_owned()];
    if let Some(spec) = ClusterSpec::read(layout)? {
        names.extend(programs(layout, &spec).into_iter().map(|p| p.name));
    }
    // Components started by hand are among them.
    names.extend(process::names(layout));
    for name in names {
        let lock = layout.lock(&name);
        if !process::signal(&lock, Signal::SIGTERM)? {
            continue;
        }
        let path = lock.clone();
        let free = world.blocking(move || process::wait_until_free(&path));
        if tokio::time::timeout(STOP, free).await.is_err() {
            process::signal(&lock, Signal::SIGKILL)?;
        }
    }
    Ok(())
}

/// Removes the containers that carry this cluster's label.
async fn remove_containers(cluster: &str) -> Result<usize> {
    let docker = Docker::connect_with_local_defaults().context("connect to Docker")?;
    let label = format!("{}={cluster}", skiff_kubelet::runtime::CLUSTER_LABEL);
    let filters = BTreeMap::from([("label".to_owned(), vec![label])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters.into_iter().collect()).build();
    let list = tokio::time::timeout(Duration::from_secs(30), docker.list_containers(Some(options)))
        .await
        .context("Docker does not answer; containers are left: run `skiff down` again when it does")?
        .context("list the cluster's containers")?;
    let ids: Vec<String> = list.into_iter().filter_map(|c| c.id).collect();
    let count = ids.len();
    let docker = &docker;
    let results: Vec<Result<()>> = futures::stream::iter(ids)
        .map(|id| async move {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            match tokio::time::timeout(Duration::from_secs(60), docker.remove_container(&id, Some(options))).await {
                Err(_) => bail!("Docker does not answer while removing container {id}"),
                // Removed meanwhile by somebody else.
                Ok(Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. })) => Ok(()),
                Ok(result) => result.with_context(|| format!("remove container {id}")),
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    results.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(count)
}

/// Unmounts everything that is mounted below `dir`, the innermost first.
fn unmount_below(dir: &Path) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let mut points = mount_points(&table, dir);
    points.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for point in &points {
        umount2(point.as_str(), MntFlags::MNT_DETACH).with_context(|| format!("unmount {point}"))?;
    }
    Ok(points.len())
}

/// The mount points below `dir` in the text of a mountinfo file, whose fifth field they are, with
/// blanks and the like as octal escapes.
fn mount_points(table: &str, dir: &Path) -> Vec<String> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        .filter(|point| Path::new(point).starts_with(dir))
        .collect()
}

/// Removes what Docker leaves of Pod cgroups, in every hierarchy. Best effort: a cgroup that is not
/// empty belongs to something that still runs.
fn remove_cgroups(cluster: &str) {
    let name = skiff_kubelet::runtime::cgroup_parent(cluster);
    let name = name.trim_start_matches('/');
    let mut roots = vec![Path::new("/sys/fs/cgroup").to_owned()];
    if let Ok(entries) = std::fs::read_dir("/sys/fs/cgroup") {
        roots.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()));
    }
    for root in roots {
        remove_tree_of_dirs(&root.join(name));
        // The one above it is shared with other clusters: it goes with the last of them.
        if let Some(shared) = Path::new(name).parent() {
            let _ = std::fs::remove_dir(root.join(shared));
        }
    }
}

fn remove_tree_of_dirs(dir: &Path) {
    if let Ok(entries) = std::fs::read_dir(dir) {
        for entry in entries.flatten().filter(|e| e.path().is_dir()) {
            remove_tree_of_dirs(&entry.path());
        }
        let _ = std::fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_folder_are_found() {
        let table = "36 35 98:0 / /var/lib/skiff/clusters/a/x\\040y rw - tmpfs t rw\n\
                     37 35 98:0 / /var/lib/skiff/clusters/ab rw - tmpfs t rw\n\
                     38 35 0:4 net:[1] /var/lib/skiff/clusters/a/n/net rw - nsfs nsfs rw\n";
        assert_eq!(
            mount_points(table, Path::new("/var/lib/skiff/clusters/a")),
            ["/var/lib/skiff/clusters/a/x y", "/var/lib/skiff/clusters/a/n/net"]
        );
    }
}
