import { ENGINE } from "./test-stack.ts";

/** Serves one bare repository over HTTP by git's own backend, to whoever knows the token. */
const SERVER = `
import base64, http.server, os, subprocess
ROOT = "/tmp/git"
subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", ROOT + "/work.git"], check=True)
subprocess.run(["git", "-C", ROOT + "/work.git", "config", "http.receivepack", "true"], check=True)
WANTED = "Basic " + base64.b64encode(("x-access-token:" + open("/run/secrets/token").read().strip()).encode()).decode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") != WANTED:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {"GIT_PROJECT_ROOT": ROOT, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_USER": "test",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "PATH": os.environ["PATH"]}
        answer = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True).stdout
        head, _, content = answer.partition(b"\\r\\n\\r\\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\\r\\n"))
        self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
`;

export interface GitServer {
  /** Address in the stack's network. */
  readonly inside: string;
  /** Address on this machine. */
  readonly outside: string;
  readonly remove: () => Promise<void>;
}

export interface GitServerOptions {
  readonly prefix: string;
  readonly image: string;
  /** Port on 127.0.0.1. */
  readonly port: number;
  /** File that the server reads the token from, which it wants. */
  readonly tokenFile: string;
}

/** The address that the server will have; known before it is there, since a stack is declared with it. */
export function insideAddress(prefix: string): string {
  return `http://${prefix}git:8000/work.git`;
}

/** Starts a git server in a stack's network, from an image that has git and Python. */
export async function startGitServer({ prefix, image, port, tokenFile }: GitServerOptions): Promise<GitServer> {
  const container = await ENGINE.client.createContainer({
    name: `${prefix}git`,
    Image: image,
    Cmd: ["python", "-c", SERVER],
    ExposedPorts: { "8000/tcp": {} },
    HostConfig: {
      NetworkMode: `${prefix}tunestack`,
      PortBindings: { "8000/tcp": [{ HostIp: "127.0.0.1", HostPort: String(port) }] },
      Binds: [`${tokenFile}:/run/secrets/token:ro`],
      Init: true,
    },
  });
  await container.start();
  return {
    inside: insideAddress(prefix),
    outside: `http://127.0.0.1:${port}/work.git`,
    remove: async () => await container.remove({ force: true, v: true }),
  };
}
