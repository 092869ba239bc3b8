//! The long texts of help and man pages.

/// Starts a help page with the three sections of runc's help; `{about}` is the first line of a
/// command's comment.
macro_rules! page {
    ($name:literal, $rest:literal) => {
        concat!(
            "NAME:\n   emergence-runc",
            $name,
            " - {about}\n\nUSAGE:\n   {usage}\n\n{before-help}",
            $rest,
            "{after-help}\n"
        )
    };
    ($name:literal) => {
        page!($name, "OPTIONS:\n{options}")
    };
}

pub(super) use page;

pub(super) const ABOUT: &str = "\
emergence-runc runs containers from bundles. A bundle is a directory with a
configuration, \"config.json\", and a root file system. The container's process
becomes a child of the caller of emergence-runc; there is no daemon in between.

To run the bundle in the current directory as the container \"web\":

    # emergence-runc run web

A container's id is unique in the state directory and consists of letters, digits
and _ + - . only. \"emergence-runc COMMAND --help\" describes a command.";

pub(super) const CREATE: &str = "\
DESCRIPTION:
   The create command creates a container from a bundle. Its process does not run
until the start command is given. It runs process.args of config.json; see
\"emergence-runc spec --help\".

EXAMPLE:
       # emergence-runc create -b /srv/web web
       # emergence-runc start web";

pub(super) const START: &str = "\
DESCRIPTION:
   The start command runs the user's process in a created container.";

pub(super) const RUN: &str = "\
DESCRIPTION:
   The run command creates a container from a bundle, starts it, and waits for
its process unless --detach is given. It then ends with that process's exit
status, or with 128 + the number of the signal that killed it.

EXAMPLE:
       # emergence-runc run -b /srv/web web";

pub(super) const EXEC: &str = "\
DESCRIPTION:
   The exec command runs an additional process in a container: in its namespaces
and its cgroup, with the user, capabilities, environment, limits, labels and
seccomp filter of the container's own process, unless options change them. It
ends with the process's exit status, or with 255 if it could not be run.

   --process replaces the container's process definition; capabilities, limits
and labels that the file omits are taken from the container's process.

EXAMPLE:
   To run ps in the container \"web\":

       # emergence-runc exec web ps";

pub(super) const STATE: &str = "\
DESCRIPTION:
   The state command prints the state of a container as JSON.";

pub(super) const KILL: &str = "\
DESCRIPTION:
   The kill command sends a signal to the container's init process. A signal is a
name with or without SIG, in any case (KILL, sigterm, RTMIN+3), or a number.

EXAMPLE:
   To send SIGKILL to the init process of the container \"web\":

       # emergence-runc kill web KILL";

pub(super) const DELETE: &str = "\
DESCRIPTION:
   The delete command removes a stopped container and its resources: its cgroup,
its state and its mounts.

EXAMPLE:
   If \"emergence-runc list\" shows \"web\" as stopped:

       # emergence-runc delete web";

pub(super) const LIST: &str = "\
EXAMPLE 1:
   To list the containers in the default state directory:

       # emergence-runc list

EXAMPLE 2:
   To list those in another one:

       # emergence-runc --root DIR list";

pub(super) const PS: &str = "\
DESCRIPTION:
   The ps command lists the processes of a container: as a table, with the host's
ps(1) and the options after the id, or the pids as a JSON list. The options must
keep the PID column.

EXAMPLE:
       # emergence-runc ps web -o user,pid,args";

pub(super) const PAUSE: &str = "\
DESCRIPTION:
   The pause command suspends every process of a container until the resume
command is given. The processes cannot observe it. kill and delete work on a
paused container.";

pub(super) const RESUME: &str = "\
DESCRIPTION:
   The resume command resumes the processes of a paused container.";

pub(super) const EVENTS: &str = "\
DESCRIPTION:
   The events command prints the events of a container as JSON, one object per
line, until the container ends: each OOM kill as reported by the kernel, and
statistics after each interval.

EXAMPLE:
       # emergence-runc events --stats web";

pub(super) const MOUNTS: &str = "\
DESCRIPTION:
   The mounts command adds mounts to a running container or removes them. It reads
them from a file, in the format of config.json; remove uses only the destinations.

EXAMPLE:
       # echo '[{\"destination\": \"/data\", \"source\": \"/srv/data\",
                \"options\": [\"bind\", \"ro\"]}]' > data.json
       # emergence-runc mounts add web data.json
       # emergence-runc mounts remove web data.json";

pub(super) const UPDATE: &str = "\
DESCRIPTION:
   The update command changes limits of a created, running or paused container.
Limits that are not given are unchanged. If the kernel refuses a value, all limits
keep their former values.

   --resources reads limits from a file, or from standard input if it is \"-\". The
format is that of \"linux.resources\" in config.json, such as

   {\"memory\": {\"limit\": 67108864}, \"cpu\": {\"quota\": 50000}, \"pids\": {\"limit\": 100}}

where 0 means \"unchanged\" (except in \"pids\", cpu.burst and cpu.idle), and a list
of device rules replaces the container's rules. Then all other limit options except
--l3-cache-schema and --mem-bw-schema are ignored.

   A size is a number of bytes, or has a suffix: k, m, g, t. -1 is unlimited.

EXAMPLE:
       # emergence-runc update --memory 64m --cpu-quota 50000 web";

pub(super) const SPEC: &str = "\
DESCRIPTION:
   The spec command writes a \"config.json\" for a new bundle. It runs \"sh\" of the
root file system in the directory \"rootfs\" next to it; edit process.args to run
another program.

   With --rootless the configuration has a user namespace in which the caller is
root, and omits settings that require root on the host.

EXAMPLE:
       # mkdir -p web/rootfs
       # tar -C web/rootfs -xf web.tar
       # emergence-runc spec -b web
       # emergence-runc run -b web web";

pub(super) const FEATURES: &str = "\
DESCRIPTION:
   The features command prints the features of this build as JSON, independent of
the host. The format is that of the OCI runtime specification (features.md).";

pub(super) const CHECK: &str = "\
DESCRIPTION:
   The check command reads a bundle and prints every error, one per line, with its
position, its JSON path and the correction. It ends with 1 if there is any. Unknown
members are warnings that suggest the intended member.

EXAMPLE:
       # emergence-runc check -b web";

pub(super) const CHECKPOINT: &str = "\
DESCRIPTION:
   The checkpoint command saves a container's processes in the directory
--image-path, with criu(8). Afterwards the container is deleted, unless
--leave-running or --pre-dump is given. criu's log is \"dump.log\" in the directory
--work-path.

EXAMPLE:
       # emergence-runc checkpoint --image-path /srv/saved web
       # emergence-runc restore -b /srv/web --image-path /srv/saved -d web";

pub(super) const RESTORE: &str = "\
DESCRIPTION:
   The restore command creates a container from a bundle and a checkpoint, whose
processes continue where they were saved. It waits for the init process as \"run\"
does, unless --detach is given. criu's log is \"restore.log\" in the directory
--work-path.

   To restore into another cgroup, use --manage-cgroups-mode ignore with both
commands.

EXAMPLE:
       # emergence-runc restore -b /srv/web --image-path /srv/saved web";

pub(super) const COMPLETION: &str = "\
EXAMPLE:
       # emergence-runc completion bash > /etc/bash_completion.d/emergence-runc";

pub(super) const MAN: &str = "\
DESCRIPTION:
   The man command writes a page of section 8 for the program, each command and
each verb of emergence.

EXAMPLE:
       # emergence-runc man /usr/local/share/man/man8";

#[cfg(feature = "emergence")]
pub(super) const EMERGENCE: &str = "\
DESCRIPTION:
   The emergence command verifies, stores and runs artifacts whose parts are named
by hashes. It recomputes every hash instead of trusting declarations.

   Exit status: 0 success, 1 system error, 2 wrong command line, 3 the artifact does
not match its declaration or is malformed, 4 a named object is missing, 5 a
constraint is not met, 6 the artifact is not trusted, 7 the store stayed locked.
\"run\" ends with the status of the program, or with 125 if it failed before the
program started. With --json, errors are also printed as JSON on standard output.

EXAMPLE:
       $ emergence-runc emergence hash ./tree
       # emergence-runc emergence run oci:image:1 web";

/// The long help texts of `emergence`.
#[cfg(feature = "emergence")]
pub(super) mod emergence {
    pub(crate) const HASH: &str = "\
DESCRIPTION:
   The hash verb hashes the NAR of a tree, or with --flat the bytes of a file.
--convert prints a given hash in another format.

EXAMPLE:
       $ emergence-runc emergence hash --format sri ./tree
       $ emergence-runc emergence hash --convert sha256:1b8m... --format base16";

    pub(crate) const NAR: &str = "\
DESCRIPTION:
   The nar verb writes trees as Nix archives and unpacks Nix archives. It rejects
archives that are not exactly as Nix writes them.

EXAMPLE:
       $ emergence-runc emergence nar dump ./tree -o tree.nar
       $ emergence-runc emergence nar check tree.nar
       $ emergence-runc emergence nar restore tree.nar ./copy";

    pub(crate) const STORE_PATH: &str = "\
DESCRIPTION:
   The store-path verb computes the store path that Nix would give an object.

EXAMPLE:
       $ emergence-runc emergence store-path source ./tree --name tree
       $ emergence-runc emergence store-path fixed --hash sha256-47DE... --name a.tar";

    pub(crate) const VERIFY: &str = "\
DESCRIPTION:
   The verify verb reads the whole artifact, recomputes every hash in it, and checks
that its store paths are proved. It writes and unpacks nothing.

   A store path is proved if it follows from the content, if a trusted key signed it
or the automaton it belongs to, or if --expect gives the hash. What an automaton
declares about its derivation is recomputed if the derivation is available.

   A plain image has no store paths; its layers are compared with the digests in its
manifest and the diffIDs in its configuration.

EXAMPLE:
       $ emergence-runc emergence verify nar:app.nar.xz
       $ emergence-runc emergence verify oci:app:latest
       $ emergence-runc emergence verify --trusted-key cache-1:6iZH... cache:/srv/cache#/nix/store/...-app";

    pub(crate) const BUNDLE: &str = "\
DESCRIPTION:
   The bundle verb verifies an artifact, imports its objects into the store, and
creates a bundle for the commands create and run. The root file system shows the
objects that the artifact needs and no others of the store. The same artifact and
parameters give the same bundle; on failure no bundle is left behind.

EXAMPLE:
       # emergence-runc emergence bundle --param port=9000 oci:greeter:1 ./greeter
       # emergence-runc run -b ./greeter web";

    pub(crate) const LAUNCH: &str = "\
DESCRIPTION:
   The run verb verifies an artifact, checks its constraints against this machine,
imports its objects into the store, and runs it as a container. It ends with the
status of the program, or with 125 if it failed before the program started. Without
root, the bundle is kept in the user's store until the container is deleted.

EXAMPLE:
       # emergence-runc emergence run --param port=9000 oci:greeter:1 web
       # emergence-runc emergence run cache:/srv/cache#/nix/store/...-busybox sh -- /nix/store/...-busybox/bin/sh -c id";

    pub(crate) const NODE: &str = "\
DESCRIPTION:
   The node verb prints facts about this machine as JSON: architecture, kernel,
processors, memory, GPUs, devices, and the labels that its owner defines in
/etc/emergence/node.json, such as {\"labels\": {\"zone\": \"a\"}}.

EXAMPLE:
       $ emergence-runc emergence node > here.json";

    pub(crate) const INSPECT: &str = "\
DESCRIPTION:
   The inspect verb shows the entry point, ports and layers of an image, or the
declarations of an artifact of store objects. It reads only the documents, each
checked against its digest. It prints JSON; for an image on a terminal, a readable
summary.

EXAMPLE:
       $ emergence-runc emergence inspect oci:app:latest
       $ emergence-runc emergence inspect --platform linux/arm64 oci-archive:app.tar --json";

    pub(crate) const UNPACK: &str = "\
DESCRIPTION:
   The unpack verb verifies an artifact as the verify verb does, reads it again, and
creates its files: in the store, or with --to in a new directory. Results appear
atomically; on failure nothing is left behind.

   With --to, a NAR is unpacked as a tree, the objects of a closure at their store
paths below the directory, and the layers of a plain image as one tree. In the store,
each layer of an image is a directory for overlayfs, shared with other images; the
directories are printed, lowest first. Without root, all files belong to the caller,
devices are skipped (and reported), and an image is one tree in the store too.

EXAMPLE:
       # emergence-runc emergence unpack oci:app:latest --to /srv/app/rootfs
       # emergence-runc emergence unpack cache:/srv/cache#/nix/store/...-app";

    pub(crate) const IMPORT: &str = "\
DESCRIPTION:
   The import verb verifies artifacts as the verify verb does, adds their objects to
the store, and prints their store paths. An object is published only after all
objects that it refers to; identical files are stored once.

EXAMPLE:
       # emergence-runc emergence import --trusted-key cache-1:6iZH... cache:/srv/cache#/nix/store/...-app";

    pub(crate) const EXPORT: &str = "\
DESCRIPTION:
   The export verb writes objects of the store, with all objects that they refer to,
into a directory that is a Nix binary cache. It prints the objects that were added.
--only-from takes the output of the need verb. Blob digests in it select the objects
that were imported from those blobs.

EXAMPLE:
       # emergence-runc emergence export /nix/store/...-app --to cache:/srv/cache --sign mine.key
   Only objects that another machine lacks:
       # ssh other emergence-runc emergence need cache:/srv/all#/nix/store/...-app |
             emergence-runc emergence export --to cache:/mnt/stick --only-from -";

    pub(crate) const NEED: &str = "\
DESCRIPTION:
   The need verb lists the parts of an artifact that are missing from the store, one
name per line. It reads only the artifact's documents.

EXAMPLE:
       # emergence-runc emergence need cache:/srv/cache#/nix/store/...-app";

    pub(crate) const LS: &str = "\
DESCRIPTION:
   The ls verb lists the objects of the store. On a terminal it also prints the size
of each object and the proof of its path.

EXAMPLE:
       # emergence-runc emergence ls";

    pub(crate) const INFO: &str = "\
DESCRIPTION:
   The info verb shows an object of the store: the location of its tree, its hashes,
its references, and the proof of its path. It prints JSON unless standard output is a
terminal.

EXAMPLE:
       # emergence-runc emergence info /nix/store/...-app";

    pub(crate) const CHECK: &str = "\
DESCRIPTION:
   The check verb rehashes every object of the store and lists every problem, one per
line, or with --json as one list. --repair restores corrupt objects from an artifact
that contains them; remaining problems are reported.

EXAMPLE:
       # emergence-runc emergence check --repair cache:/srv/cache#/nix/store/...-app";

    pub(crate) const ROOT: &str = "\
DESCRIPTION:
   The root verb manages garbage-collection roots: names that keep artifacts in the
store when the gc verb runs.

EXAMPLE:
       # emergence-runc emergence root add web store:/nix/store/...-app
       # emergence-runc emergence root ls";

    pub(crate) const GC: &str = "\
DESCRIPTION:
   The gc verb deletes objects that are not reachable from a root or from a process
that uses them. It prints the bytes freed, or with --dry-run the bytes that would be
freed.

EXAMPLE:
       # emergence-runc emergence gc --keep-for 7d";

    pub(crate) const PACK: &str = "\
DESCRIPTION:
   The pack verb creates an automaton from a document without its \"closure\", and from
objects: trees of the file system, or objects of a binary cache or of the store. In
\"outputs\" and \"init\" of the document, @NAME stands for the store path of the tree
NAME. It prints the digest of the manifest. The same input gives the same bytes.

   The output is a tar or a directory; if the directory is a layout already, a tag is
added to it. The image form can be run by any engine; the artifact form is smaller and
has NARs as layers.

   A declaration \"nix-derivation\" gets digest and equivalence from the derivation,
whose outputs must be those of the document. The derivation is an input NAME.drv, or
\"storePath\" in the store, in the cache, or on this machine.

EXAMPLE:
       $ emergence-runc emergence pack --spec app.json --tree app=./app --output oci:out:1
       $ emergence-runc emergence pack --spec app.json --from cache:/srv/cache
             --path /nix/store/...-app --output oci-archive:app.tar --form artifact";

    pub(crate) const SIGN: &str = "\
DESCRIPTION:
   The sign verb verifies an automaton, signs it, and writes a manifest with the
signature, to which its tag is moved. It prints the signature.

EXAMPLE:
       $ emergence-runc emergence sign oci:out:1 mine.key";

    pub(crate) const SAME: &str = "\
DESCRIPTION:
   The same verb verifies two automata and compares their digests: of the declaration,
of the content of their outputs, of their interface, and of all three. It ends with 0
if the outputs are the same, and with 1 if they are not.

EXAMPLE:
       $ emergence-runc emergence same oci:out:1 oci:out:2";

    pub(crate) const KEY: &str = "\
DESCRIPTION:
   The key verb creates Ed25519 keys in Nix's key format.

EXAMPLE:
       $ (umask 077; emergence-runc emergence key generate mine-1 > mine.key)
       $ emergence-runc emergence key public mine.key";

    pub(crate) const DRV: &str = "\
DESCRIPTION:
   The drv verb reads derivations, the build recipes of Nix. \"drv check\" also reads
and verifies the derivations of all inputs, and recomputes the path of every output.

EXAMPLE:
       $ emergence-runc emergence drv check /nix/store/...-hello.drv";
}
