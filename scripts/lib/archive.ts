import { extract } from "tar-fs";

/** Files and folders only, below `folder`, readable by and belonging to whoever runs this. */
export function unpackInto(folder: string): NodeJS.WritableStream {
  return extract(folder, {
    strip: 1,
    ignore: (_name, header) => header !== undefined && header.type !== "file" && header.type !== "directory",
    map: (header) => {
      const mode = header.mode | (header.type === "directory" ? 0o700 : 0o600);
      return { ...header, mode, uid: process.getuid?.() ?? header.uid, gid: process.getgid?.() ?? header.gid };
    },
  });
}
