"""What benches/peers and benches/compare share: a PostgreSQL 17 server with data, and how programs are measured on it.

Everything but the build runs as an unprivileged user, inside one scratch folder that is removed at the end.
"""
import ctypes
import os
import pathlib
import pwd
import random
import resource  # os.wait4 needs it, and not only after the change of user
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A PostgreSQL server with data in a scratch folder."""

    def __init__(self, programs, scratch):
        self.programs, self.scratch = programs, scratch
        self.data = scratch / "data"
        self.port = random.randint(20000, 40000)
        self.conninfo = f"host={scratch} port={self.port} user=postgres dbname=postgres"

    def program(self, name):
        return str(self.programs / name)

    def run(self, *command, **options):
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout.strip()

    def sql(self, text):
        return self.run(self.program("psql"), self.conninfo, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text)

    def pg_ctl(self, action, *options):
        # Not captured: the server would keep the pipe open.
        subprocess.run([self.program("pg_ctl"), "-D", str(self.data), "-s", "-w", "-l", str(self.scratch / "log"),
                        *options, action], check=True)

    def start(self, settings=""):
        self.run(self.program("initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust", "--data-checksums", "--no-sync")
        (self.data / "postgresql.auto.conf").write_text(
            f"port = {self.port}\nlisten_addresses = ''\nunix_socket_directories = '{self.scratch}'\n"
            "shared_buffers = '1GB'\nmax_wal_size = '20GB'\ncheckpoint_timeout = '1h'\nmax_wal_senders = 20\n"
            f"max_replication_slots = 40\nautovacuum = off\n{settings}")
        self.pg_ctl("start")

    def load(self, scale, texts, fillfactor=100):
        """pgbench's tables at this scale, and so many rows of text with an index."""
        self.run(self.program("pgbench"), "-i", "-q", "-s", str(scale), "-F", str(fillfactor), self.conninfo,
                 stderr=subprocess.DEVNULL)
        # Text that compresses about 3.6:1, as documents do.
        self.sql(f"CREATE TABLE texts WITH (fillfactor = {fillfactor}) AS "
                 f"SELECT i, 0 AS n, md5(i::text) || repeat(' lorem ipsum ' || (i % 97), 6) || "
                 f"'{{\"key\": ' || i || '}}' AS body FROM generate_series(1, {texts}) i")
        self.sql("CREATE INDEX ON texts (body)")
        self.sql("CHECKPOINT")

    def end(self):
        if (self.data / "postmaster.pid").exists():
            self.pg_ctl("stop", "-m", "immediate")


def tree(pid):
    """The process and its descendants."""
    found, left = [], [pid]
    while left:
        process = left.pop()
        found.append(process)
        try:
            tasks = list(pathlib.Path(f"/proc/{process}/task").glob("*/children"))
        except OSError:
            # It has ended meanwhile.
            continue
        for task in tasks:
            try:
                left += [int(child) for child in task.read_text().split()]
            except OSError:
                pass
    return found


def cpu_seconds(pid):
    """User and system time of a process, its descendants, and those that have ended and were waited for."""
    total = 0
    for process in tree(pid):
        try:
            stat = pathlib.Path(f"/proc/{process}/stat").read_text()
        except OSError:
            continue
        # utime, stime, cutime, cstime: fields 14 to 17; the second may contain blanks.
        total += sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])
    return total / TICKS


def bytes_read(pid):
    """Bytes that they read from files, as far as the kernel tells."""
    total = 0
    for process in tree(pid):
        try:
            lines = pathlib.Path(f"/proc/{process}/io").read_text().splitlines()
        except OSError:
            continue
        total += int(lines[0].split()[1])
    return total


def memory_mib(pid):
    """Memory of a process and its descendants now: what is shared counts for each."""
    total = 0
    for process in tree(pid):
        try:
            total += int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            pass
    return total * resource.getpagesize() / 2**20


class MemoryPeak(threading.Thread):
    """Looks ten times a second how much memory some processes and their descendants have together."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.peak_mib, self.ended = pids, 0, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.1):
            self.peak_mib = max(self.peak_mib, sum(memory_mib(pid) for pid in self.pids))

    def end(self):
        self.ended.set()
        self.join()
        return self.peak_mib


def execute(command, daemons=()):
    """Runs a command to its end: wall seconds, what the kernel counted for it and its children, and their memory, with
    that of the daemons who work for it."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    memory = MemoryPeak([process.pid, *daemons])
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall, process.returncode = time.monotonic() - begun, status
    peak = max(memory.end(), usage.ru_maxrss / 1024)
    if status:
        sys.exit(f"{command} failed: {errors.decode(errors='replace')}")
    return wall, usage, peak


def stored_bytes(*places):
    """Sizes of all files below."""
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file())


def become(user):
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    # PR_SET_DUMPABLE: after the change of user even our own files in /proc are root's.
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)


def unprivileged():
    for user in ("postgres", "pgm-test"):
        try:
            return pwd.getpwnam(user).pw_name
        except KeyError:
            pass
    subprocess.run(["useradd", "--system", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "pgm-test"], check=True)
    return "pgm-test"


def set_up(arguments, packages, programs, rounds):
    """Builds, makes a scratch folder with pgm's programs, and runs the rounds, as another user when root."""
    name = pathlib.Path(sys.argv[0]).name
    subprocess.run([ROOT / "tests/postgresql"], check=True, stdout=subprocess.DEVNULL)
    directory = subprocess.check_output([ROOT / "tests/postgresql", "--directory"], text=True).strip()
    packages = [word for package in packages for word in ("-p", package)]
    subprocess.run(["cargo", "build", "--release", "--locked", "--bins", *packages], cwd=ROOT, check=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=arguments.dir))
    try:
        (scratch / "bin").mkdir()
        for program in programs:
            shutil.copy2(TARGET / program, scratch / "bin")
        user = unprivileged() if os.geteuid() == 0 else None
        if user:
            subprocess.run(["chown", "-R", f"{user}:", scratch], check=True)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if user:
                    become(user)
                os.chdir(scratch)
                os.environ["HOME"] = str(scratch)
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
                rounds(Server(pathlib.Path(directory) / "17/bin", scratch), arguments)
                status = 0
            except SystemExit as end:
                print(f"benches/{name}: {end}", file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
