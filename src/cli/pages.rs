//! The long texts of help and man pages.

/// Opens a help page with the three sections that runc's users know; `{about}` is the first line of a command's comment.
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
emergence-runc runs containers from bundles: a bundle is a folder with a
configuration, \"config.json\", and a root file system. The container's process
becomes a child of whoever calls emergence-runc; no daemon stands between.

To run the bundle in the current folder as the container \"web\":

    # emergence-runc run web

An id names a container on this host: letters, digits and _ + - . only.";

pub(super) const CREATE: &str = "\
DESCRIPTION:
   The create command sets a container up from a bundle. Its process does not
run before the start command is given. What it runs is process.args of
config.json; see \"emergence-runc spec --help\".

EXAMPLE:
       # emergence-runc create -b /srv/web web
       # emergence-runc start web";

pub(super) const START: &str = "\
DESCRIPTION:
   The start command runs the user's process in a container that the create
command has set up.";

pub(super) const RUN: &str = "\
DESCRIPTION:
   The run command creates a container from a bundle, starts it, and waits for
its process unless --detach is given. It then ends with that process's exit
status, or 128 + the number of the signal that killed it.

EXAMPLE:
       # emergence-runc run -b /srv/web web";

pub(super) const EXEC: &str = "\
DESCRIPTION:
   The exec command runs one more process in a container: in its namespaces and
its cgroup, with the user, capabilities, environment, limits, labels and seccomp
filter of the container's own process, as far as options do not change them. It
ends with the process's exit status, or with 255 when it could not be run.

   A file for --process takes the place of the container's process; what it does
not say of capabilities, limits and labels stays as that one has it.

EXAMPLE:
   To run ps in the container \"web\":

       # emergence-runc exec web ps";

pub(super) const STATE: &str = "\
DESCRIPTION:
   The state command prints what is known of a container as JSON.";

pub(super) const KILL: &str = "\
DESCRIPTION:
   The kill command signals the container's init process. A signal is a name
with or without SIG, in any case (KILL, sigterm, RTMIN+3), or a number.

EXAMPLE:
   To send SIGKILL to the init process of the container \"web\":

       # emergence-runc kill web KILL";

pub(super) const DELETE: &str = "\
DESCRIPTION:
   The delete command removes what a stopped container holds: its cgroup, its
state and its mounts.

EXAMPLE:
   When \"emergence-runc list\" shows \"web\" as stopped:

       # emergence-runc delete web";

pub(super) const LIST: &str = "\
EXAMPLE 1:
   To list the containers under the default state folder:

       # emergence-runc list

EXAMPLE 2:
   To list those under another one:

       # emergence-runc --root DIR list";

pub(super) const PS: &str = "\
DESCRIPTION:
   The ps command shows the processes of a container: as a table, by the host's
ps(1) with the options behind the id, or their numbers as a JSON list. The
options must leave a column PID in the table.

EXAMPLE:
       # emergence-runc ps web -o user,pid,args";

pub(super) const PAUSE: &str = "\
DESCRIPTION:
   The pause command stops every process of a container until the resume command
is given. They notice nothing of it. kill and delete work meanwhile.";

pub(super) const RESUME: &str = "\
DESCRIPTION:
   The resume command lets the processes of a paused container go on.";

pub(super) const EVENTS: &str = "\
DESCRIPTION:
   The events command prints what happens in a container as JSON, one object a
line, until the container ends: each out-of-memory kill as the kernel tells it,
and statistics after each interval.

EXAMPLE:
       # emergence-runc events --stats web";

pub(super) const MOUNTS: &str = "\
DESCRIPTION:
   The mounts command makes mounts in a running container, or takes them away.
It reads them from a file, in the form that they have in config.json; for
remove only the destinations count.

EXAMPLE:
       # echo '[{\"destination\": \"/data\", \"source\": \"/srv/data\",
                \"options\": [\"bind\", \"ro\"]}]' > data.json
       # emergence-runc mounts add web data.json
       # emergence-runc mounts remove web data.json";

pub(super) const UPDATE: &str = "\
DESCRIPTION:
   The update command changes limits of a container that is created, running or
paused. What is not named stays as it is. When the kernel refuses a value, the
container goes on with the limits that it had.

   With --resources the limits are read from a file, or from standard input when
it is \"-\". It holds the object \"resources\" of config.json's \"linux\", such as

   {\"memory\": {\"limit\": 67108864}, \"cpu\": {\"quota\": 50000}, \"pids\": {\"limit\": 100}}

where a zero outside of \"pids\" is a value that is not named, and a list of
device rules replaces the one that the container has. The options for single
limits are then ignored, but for --l3-cache-schema and --mem-bw-schema.

   Sizes are bytes, or have a suffix: k, m, g, t. -1 is no limit.

EXAMPLE:
       # emergence-runc update --memory 64m --cpu-quota 50000 web";

pub(super) const SPEC: &str = "\
DESCRIPTION:
   The spec command writes \"config.json\" for a new bundle. It runs as it is
when the root file system, in the folder \"rootfs\" beside it, has a program
\"sh\"; edit process.args to run something else.

   With --rootless the configuration gets a user namespace in which the caller
is root, and leaves out what only root on the host may do.

EXAMPLE:
       # mkdir -p web/rootfs
       # tar -C web/rootfs -xf web.tar
       # emergence-runc spec -b web
       # emergence-runc run -b web web";

pub(super) const FEATURES: &str = "\
DESCRIPTION:
   The features command prints what this build understands, whatever the host
can do, as JSON. Its form is the OCI runtime specification's, features.md.";

pub(super) const CHECK: &str = "\
DESCRIPTION:
   The check command reads a bundle and prints every fault it finds, one a line,
with its place, its JSON path and what to write instead. It ends with 1 if there
is any. Members that mean nothing are warnings, with the one that was likely
meant.

EXAMPLE:
       # emergence-runc check -b web";

pub(super) const CHECKPOINT: &str = "\
DESCRIPTION:
   The checkpoint command has criu(8) write a container's processes into the
folder --image-path. The container is deleted then, unless --leave-running or
--pre-dump is given. criu's log is \"dump.log\" in the folder --work-path.

EXAMPLE:
       # emergence-runc checkpoint --image-path /srv/saved web
       # emergence-runc restore -b /srv/web --image-path /srv/saved -d web";

pub(super) const RESTORE: &str = "\
DESCRIPTION:
   The restore command makes a container from a bundle and from what the
checkpoint command has saved of its processes, which go on where they were. It
waits for the first of them as \"run\" does, unless --detach is given. criu's log
is \"restore.log\" in the folder --work-path.

   To restore into another cgroup, use --manage-cgroups-mode ignore both times.

EXAMPLE:
       # emergence-runc restore -b /srv/web --image-path /srv/saved web";

pub(super) const COMPLETION: &str = "\
EXAMPLE:
       # emergence-runc completion bash > /etc/bash_completion.d/emergence-runc";

pub(super) const EMERGENCE: &str = "\
DESCRIPTION:
   The emergence command deals with artifacts whose parts are named by hashes.
Whatever it is told of one, it recomputes.

   It ends with 0 when all is well, 1 when the system failed, 2 for a wrong
command line, 3 when an artifact is not what it says, 4 when something named is
missing, 5 when a constraint is not met, 6 when an artifact is not trusted, 7 when
the store stays locked. \"run\" ends as the program does, and with 125 when it did
not get that far. With --json, a refusal is told on standard output too.

EXAMPLE:
       $ emergence-runc emergence hash ./tree
       # emergence-runc emergence run oci:image:1 web";

/// Those of `emergence`.
pub(super) mod emergence {
    pub(crate) const HASH: &str = "\
DESCRIPTION:
   The hash verb hashes the NAR of a tree, or with --flat the bytes of a file. With
--convert it writes a hash in another way.

EXAMPLE:
       $ emergence-runc emergence hash --format sri ./tree
       $ emergence-runc emergence hash --convert sha256:1b8m... --format base16";

    pub(crate) const NAR: &str = "\
DESCRIPTION:
   The nar verb makes Nix archives of trees, and trees of Nix archives. It takes
no archive that Nix would not have written.

EXAMPLE:
       $ emergence-runc emergence nar dump ./tree -o tree.nar
       $ emergence-runc emergence nar check tree.nar
       $ emergence-runc emergence nar restore tree.nar ./copy";

    pub(crate) const STORE_PATH: &str = "\
DESCRIPTION:
   The store-path verb computes what Nix would call an object in its store.

EXAMPLE:
       $ emergence-runc emergence store-path source ./tree --name tree
       $ emergence-runc emergence store-path fixed --hash sha256-47DE... --name a.tar";

    pub(crate) const VERIFY: &str = "\
DESCRIPTION:
   The verify verb reads an artifact whole, recomputes every hash in it, and asks
what proves its store paths. It writes nothing and unpacks nothing.

   A path is proved when it follows from the content, when a trusted key has signed
it or the automaton that it is of, or when --expect names the hash. What an automaton
says of its derivation is recomputed where that is at hand.

   A plain image has no store paths; its layers are read, and held against the
digests and diffIDs that its manifest and its configuration have.

EXAMPLE:
       $ emergence-runc emergence verify nar:app.nar.xz
       $ emergence-runc emergence verify oci:app:latest
       $ emergence-runc emergence verify --trusted-key cache-1:6iZH... cache:/srv/cache#/nix/store/...-app";

    pub(crate) const BUNDLE: &str = "\
DESCRIPTION:
   The bundle verb verifies an artifact, keeps its objects in the store, and makes
a bundle for the commands create and run. The root file system shows the objects
that the artifact needs and nothing else of the store. The same artifact and
parameters make the same bundle; when anything fails, there is none.

EXAMPLE:
       # emergence-runc emergence bundle --param port=9000 oci:greeter:1 ./greeter
       # emergence-runc run -b ./greeter web";

    pub(crate) const LAUNCH: &str = "\
DESCRIPTION:
   The run verb verifies an artifact, tests what it needs of this machine, keeps its
objects in the store, and runs it as a container. It ends as the program does, and
with 125 when it did not get that far. What an ordinary user runs lies in his store
until the container is deleted.

EXAMPLE:
       # emergence-runc emergence run --param port=9000 oci:greeter:1 web
       # emergence-runc emergence run cache:/srv/cache#/nix/store/...-busybox sh -- /nix/store/...-busybox/bin/sh -c id";

    pub(crate) const NODE: &str = "\
DESCRIPTION:
   The node verb prints what this machine has, as JSON: architecture, kernel,
processors, memory, graphics processors, devices, and the labels that its owner
gave it in /etc/emergence/node.json, such as {\"labels\": {\"zone\": \"a\"}}.

EXAMPLE:
       $ emergence-runc emergence node > here.json";

    pub(crate) const INSPECT: &str = "\
DESCRIPTION:
   The inspect verb shows how an image is started, which ports it has, and what it
is made of, or what an artifact of store objects declares. It reads the documents
only, each held against its digest. It answers in JSON; on a terminal, with words
for an image.

EXAMPLE:
       $ emergence-runc emergence inspect oci:app:latest
       $ emergence-runc emergence inspect --platform linux/arm64 oci-archive:app.tar --json";

    pub(crate) const UNPACK: &str = "\
DESCRIPTION:
   The unpack verb verifies an artifact as the verify verb does, reads it again, and
makes its files: in the store, or with --to in a new folder. Nothing has its name
before all of it is made; after a failure nothing is there.

   A NAR becomes that tree; the objects of a closure stand at their store paths below
the new folder. Of a plain image, the layers become one tree in a new folder. In the
store each has a folder of its own, as overlayfs takes them, which other images share;
the folders are printed, the lowest first. Who is not root owns all of it, gets no
devices, and one tree in the store too; what is left out is told.

EXAMPLE:
       # emergence-runc emergence unpack oci:app:latest --to /srv/app/rootfs
       # emergence-runc emergence unpack cache:/srv/cache#/nix/store/...-app";

    pub(crate) const IMPORT: &str = "\
DESCRIPTION:
   The import verb verifies artifacts as the verify verb does, and then keeps their
objects in the store. It prints the store path of each. Nothing has its name in the
store before all that it refers to has; files that are the same are there once.

EXAMPLE:
       # emergence-runc emergence import --trusted-key cache-1:6iZH... cache:/srv/cache#/nix/store/...-app";

    pub(crate) const EXPORT: &str = "\
DESCRIPTION:
   The export verb writes objects of the store, and all that they refer to, into a
folder that is a binary cache of Nix. It prints those that were not there. What the
need verb lists, also of an automaton in a layout, are names for --only-from: of
blobs, the objects are found that came out of them when they were imported.

EXAMPLE:
       # emergence-runc emergence export /nix/store/...-app --to cache:/srv/cache --sign mine.key
   Only what another machine lacks:
       # ssh other emergence-runc emergence need cache:/srv/all#/nix/store/...-app |
             emergence-runc emergence export --to cache:/mnt/stick --only-from -";

    pub(crate) const NEED: &str = "\
DESCRIPTION:
   The need verb lists what of an artifact is not in the store, one name a line. Only
the artifact's descriptions are read.

EXAMPLE:
       # emergence-runc emergence need cache:/srv/cache#/nix/store/...-app";

    pub(crate) const LS: &str = "\
DESCRIPTION:
   The ls verb lists the objects of the store. On a terminal, the size of each and
what proved it stand before it.

EXAMPLE:
       # emergence-runc emergence ls";

    pub(crate) const INFO: &str = "\
DESCRIPTION:
   The info verb shows what is known of an object of the store: where its tree is,
its hashes, what it refers to, and what proved it. Programs get JSON.

EXAMPLE:
       # emergence-runc emergence info /nix/store/...-app";

    pub(crate) const CHECK: &str = "\
DESCRIPTION:
   The check verb hashes every object of the store again, and tells every fault, one
a line; with --json all are one list. With --repair the objects are made anew from an
artifact that has them; faults that are left are told.

EXAMPLE:
       # emergence-runc emergence check --repair cache:/srv/cache#/nix/store/...-app";

    pub(crate) const ROOT: &str = "\
DESCRIPTION:
   The root verb keeps artifacts that are in the store from being taken away by the
gc verb, each under a name.

EXAMPLE:
       # emergence-runc emergence root add web store:/nix/store/...-app
       # emergence-runc emergence root ls";

    pub(crate) const GC: &str = "\
DESCRIPTION:
   The gc verb takes away objects that nothing keeps: neither a root, nor a process
that uses them, nor an object that is kept. It prints how many bytes are free now;
with --dry-run, how many it would be.

EXAMPLE:
       # emergence-runc emergence gc --keep-for 7d";

    pub(crate) const PACK: &str = "\
DESCRIPTION:
   The pack verb makes an automaton of a document, which has everything but the
closure, and of objects: trees of the file system, or objects of a binary cache or of
the store. In \"outputs\" and \"init\" of the document, @NAME is the path of the tree
of that name. It prints the digest of the manifest. The same input gives the same
bytes, wherever and whenever.

   The output is a folder, to which a tag is added if it is a layout already, or a tar.
An image can be run by any engine; an artifact is smaller, and has NARs for layers.

   A declaration \"nix-derivation\" gets digest and equivalence from the derivation, and
its outputs must be those of the document. It is an input NAME.drv, or at \"storePath\" in
the store or cache, or on this machine.

EXAMPLE:
       $ emergence-runc emergence pack --spec app.json --tree app=./app --output oci:out:1
       $ emergence-runc emergence pack --spec app.json --from cache:/srv/cache
             --path /nix/store/...-app --output oci-archive:app.tar --form artifact";

    pub(crate) const SIGN: &str = "\
DESCRIPTION:
   The sign verb verifies an automaton, signs it, and puts the signature into its
manifest, which its tag names from then on. It prints the signature.

EXAMPLE:
       $ emergence-runc emergence sign oci:out:1 mine.key";

    pub(crate) const SAME: &str = "\
DESCRIPTION:
   The same verb verifies two automatons and tells which of their digests agree: of
the declaration, of the content of their outputs, of their interface, and of all of
these. It ends with 0 when the outputs are the same, and with 1 when they are not.

EXAMPLE:
       $ emergence-runc emergence same oci:out:1 oci:out:2";

    pub(crate) const KEY: &str = "\
DESCRIPTION:
   The key verb makes Ed25519 keys, in the form in which Nix has them.

EXAMPLE:
       $ (umask 077; emergence-runc emergence key generate mine-1 > mine.key)
       $ emergence-runc emergence key public mine.key";

    pub(crate) const DRV: &str = "\
DESCRIPTION:
   The drv verb reads derivations, the build recipes of Nix. The check reads those
of all inputs too, each of which must be the one that its path names, and
recomputes the path of every output.

EXAMPLE:
       $ emergence-runc emergence drv check /nix/store/...-hello.drv";
}
