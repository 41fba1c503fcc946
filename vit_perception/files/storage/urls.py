"""Which storage a path or URL means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from vit_perception.files.errors import InvalidValue, shown
from vit_perception.files.storage.folder import StorageFolder, checked_name
from vit_perception.files.storage.local import LocalFolder
from vit_perception.files.storage.object_store import ObjectFolder
from vit_perception.files.storage.settings import SCHEMES

ACCEPTED = f"a local path, or {', '.join(f'{scheme}://BUCKET/PREFIX' for scheme in SCHEMES)}"


def is_url(text: str) -> bool:
    """Whether ``text`` names a scheme, and so is no local path."""
    return "://" in text


def folder_of(place: str | Path) -> StorageFolder:
    """Return the storage folder of a local path or a URL. Nothing is opened or created.

    Raises:
        InvalidValue: The URL's scheme is not known, or it names no bucket.
    """
    text = str(place)
    if isinstance(place, Path) or not is_url(text):
        return LocalFolder(Path(place))
    scheme = text.partition("://")[0].lower()
    if scheme == "file":
        return LocalFolder(Path(unquote(urlsplit(text).path)))
    if scheme not in SCHEMES:
        raise InvalidValue(
            f"{shown(text)} has the scheme {shown(scheme)}; accepted: {ACCEPTED}",
        )
    # A key may hold "?", "#" and "%", so the rest is taken as it is.
    root = text.partition("://")[2].rstrip("/")
    if "@" in root.partition("/")[0] and scheme == "s3":
        raise InvalidValue(
            f"a {scheme}:// URL holds credentials; accepted: {ACCEPTED}, with the credentials in "
            "the environment"
        )
    if not root:
        raise InvalidValue(f"{shown(text)} names no bucket; accepted: {ACCEPTED}")
    return ObjectFolder(scheme, checked_name(root))
