"""An admin for whom nobody can log in, and an API token of theirs; in the guest, on standard output."""

from pathlib import Path

from agent.api.users import Role, UserBook
from agent.core.clock import SystemClock

NAME = "clients"
#: Of no password. A real one costs an emulated machine many seconds.
NO_PASSWORD = "$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA"  # noqa: S105 - nobody's


def make(data_dir: Path) -> str:
    """Make both; the token."""
    clock = SystemClock()
    book = UserBook(data_dir, clock.now_us)
    book.add(NAME, Role.ADMIN, NO_PASSWORD)
    return book.add_token(NAME, "trial", clock.now_us())


if __name__ == "__main__":
    print(make(Path("/var/lib/enlace")))
