"""Where everything of one installation lies, and whether an unprivileged user can reach it.

Standard library only: `install.py` asks before any environment exists. Databases refuse to run as root and untrusted
weights must not, so under root their files have to lie where other users can enter. A checkout under /root is no such
place; then they go to /var/lib, and the commands say so.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ELSEWHERE = Path("/var/lib")
MARKER = ".freehold-installation"  # in a folder that held nothing before us

DATABASE_USER = "nobody"  # PostgreSQL wants an account with a name
ENGINE_UID = 61230  # no account at all: engines may not touch the databases' files, and own nothing themselves
_SOCKET_LIMIT = 90  # sun_path holds 108 bytes and supervisord appends its pid while it binds


def others_may_enter(path: Path) -> bool:
    """Whether a user without rights of its own can reach `path`: every existing folder above it lets others through."""
    path = path.absolute()
    return all(stat.S_IMODE(folder.stat().st_mode) & stat.S_IXOTH for folder in path.parents if folder.is_dir())


def short_hash(path: Path) -> str:
    """Eight hexadecimal digits that stand for a path."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]


def drops_privileges() -> bool:
    """Whether databases and engines run as another user than we do."""
    return os.geteuid() == 0


def engine_folder(root: Path = ROOT) -> Path:
    """Where the engine's environment really lies; `.venv-engine` in the checkout is this folder or a link to it."""
    if drops_privileges() and not others_may_enter(root / ".venv-engine"):
        return ELSEWHERE / f"freehold-{short_hash(root)}" / "venv-engine"
    return root / ".venv-engine"


@dataclass(frozen=True)
class Layout:
    """One installation.

    Attributes:
        home: FREEHOLD_HOME: small private files and logs. Its path is the installation's name (FREEHOLD_INSTANCE).
        data: databases, objects, journals; where others may enter.
        run: sockets and pid files, private, with a short path.
    """

    home: Path
    data: Path
    run: Path

    @classmethod
    def of(cls, home: Path | None = None) -> Layout:
        """The layout of `home` (default: FREEHOLD_HOME, then .freehold in the checkout). Creates nothing."""
        home = Path(home or os.environ.get("FREEHOLD_HOME") or ROOT / ".freehold").absolute()
        data = home / "data"
        if given := os.environ.get("FREEHOLD_DATA"):
            data = Path(given).absolute()
        elif drops_privileges() and not others_may_enter(data):
            data = ELSEWHERE / f"freehold-{short_hash(home)}" / "data"
        run = home / "run"
        if len(str(run)) > _SOCKET_LIMIT - len("/supervisor.sock"):
            run = Path("/tmp") / f"freehold-{os.geteuid()}-{short_hash(home)}"  # noqa: S108 - private() checks its owner
        return cls(home=home, data=data, run=run)

    def claim(self) -> None:
        """Marks `home` and `data` as ours where they are new or empty. What was there before us is never removed."""
        for folder in (self.home, self.data):
            folder.mkdir(parents=True, exist_ok=True)
            if not any(folder.iterdir()):
                (folder / MARKER).write_text("Freehold made this folder; `make clean` removes it with all it holds.\n")

    @property
    def not_ours(self) -> list[Path]:
        """Which of `home` and `data` held something before us, whoever named them to us."""
        ours = {ROOT / ".freehold", ELSEWHERE / f"freehold-{short_hash(self.home)}" / "data"}
        folders = [self.home, self.data]
        if self.is_elsewhere or not _is_marked(self.home, ours):
            return [folder for folder in folders if folder.is_dir() and not _is_marked(folder, ours)]
        return []  # `data` goes with the `home` around it

    def create(self) -> None:
        """Makes the folders. `home` and `data` let others pass through; what is secret in them is closed by itself."""
        self.claim()
        for folder in (self.home, self.data, self.logs, self.data / "static"):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        private(self.run)
        private(self.data / "gateway")
        private(self.data / "objects")

    @property
    def instance(self) -> str:
        """FREEHOLD_INSTANCE."""
        return str(self.home)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the data does not lie under `home`."""
        return self.home not in self.data.parents

    @property
    def logs(self) -> Path:
        """One file a process, rotated."""
        return self.home / "logs"

    @property
    def demo(self) -> Path:
        """The facts of the demo, for scripts (mode 600)."""
        return self.home / "demo.json"

    @property
    def secrets(self) -> Path:
        """Passwords and keys of this installation (mode 600)."""
        return self.home / "secrets.json"

    @property
    def socket(self) -> Path:
        """supervisord's remote control."""
        return self.run / "supervisor.sock"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.data / "postgres"

    @property
    def redis(self) -> Path:
        """Redis' data folder."""
        return self.data / "redis"


def _is_marked(folder: Path, ours: set[Path]) -> bool:
    return folder in ours or (folder / MARKER).is_file()


def private(folder: Path) -> Path:
    """Makes `folder` for our eyes only. Raises PermissionError where somebody else owns it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else. Remove it, then try again.")
    folder.chmod(0o700)
    return folder
