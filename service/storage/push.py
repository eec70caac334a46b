"""A version of a model from the disk to an object store: its files first, its manifest last."""

from __future__ import annotations

from contract import manifest
from contract.bundle import Bundle
from contract.errors import BundleError
from service.storage.store import Store


def push(bundle: Bundle, store: Store) -> bool:
    """Upload a version, which nobody sees before it is whole.

    Args:
        bundle: in a repository; the names of its folder and of that above are the version and the model.
        store: where to.

    Returns:
        Whether anything was uploaded: False where the same files are there already.

    Raises:
        BundleError: another version of that number is there, or a file cannot be in a manifest.
        StoreError: the store cannot be read or written.
    """
    manifest.check_if_there(bundle.folder)
    name = bundle.folder.absolute().parent.name
    there = f"{name}/{bundle.version}"
    made = manifest.make(bundle.folder, name, bundle.version)
    data = made.to_json()
    before = store.read(f"{there}/{manifest.NAME}", manifest.LARGEST)
    if before == data:
        return False
    if before is not None:
        raise BundleError(
            f"{store.url(there)} is there with other files: a version does not change; publish these as the next one"
        )
    for path in made.files:
        store.put(bundle.folder / path, f"{there}/{path}")
    store.write(f"{there}/{manifest.NAME}", data)
    return True
