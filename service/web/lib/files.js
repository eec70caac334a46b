/** The files in what was dropped, those in folders included. */

/**
 * @param {DataTransfer} transfer
 * @returns {Promise<Array<{file: File, path: string}>>} in order of their paths
 */
export async function listed(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = entries.length ? (await Promise.all(entries.map(inside))).flat() : fromList(transfer.files);
  return found.sort((a, b) => a.path.localeCompare(b.path, "en", { numeric: true }));
}

/** As `listed`, of an `<input type=file>`. */
export function fromList(files) {
  return [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

async function inside(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break; // it gives a hundred at a time
    entries.push(...some);
  }
  return (await Promise.all(entries.map(inside))).flat();
}
