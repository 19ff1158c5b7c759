import { makeNotebook, type Notebook, pythonLiteral } from "./document.ts";
import {
  CONTENT,
  clone,
  DRIVE_POINT,
  folderName,
  gitAccess,
  SECRETS_FOLDER,
  setting,
  useTools,
} from "./shared-cells.ts";

/** What a daemon notebook is written for. */
export interface DaemonNotebook {
  /** Address of tunestack's repository, whose runner the cells use. */
  readonly tools: string;
  /** Address of the repository whose branch is the queue. */
  readonly repository: string;
  readonly branch: string;
}

/** A runner of the git queue on Colab's GPU: what is pushed to the branch runs here. */
export function daemonNotebook({ tools, repository, branch }: DaemonNotebook): Notebook {
  const name = folderName(repository);
  return makeNotebook(
    [
      {
        title: `Experiments of ${name} on Colab's GPU`,
        text: `
Run the cells from top to bottom (Runtime → Run all). The session then takes experiments from a git branch, one after the other,
and pushes their logs and results. Submit them from anywhere by \`npm run experiment -- submit\`.

A session that is cut off loses nothing: what ran is taken again by the next runner when its claim has expired, in five minutes.
The token comes from Colab's secrets, the key at the left edge.`,
        code: [
          setting("REPOSITORY", repository, "whose branch is the queue"),
          setting("BRANCH", branch, "the branch"),
          setting("GIT_SECRET", "GIT_TOKEN", "name of Colab's secret with a token that may push to it"),
          setting("DRIVE_FOLDER", `tunestack/${name}`, "folder of your Drive for outputs"),
          setting("POLL", "60s", "time between two looks at the branch"),
          setting("NEED_GPU", true, "stop where the session has no GPU; False runs everything on the CPU"),
          setting("ONCE", false, "True ends when nothing is left to run, and frees the GPU"),
        ].join("\n"),
      },
      {
        title: "Check the GPU",
        text: "Runtime → Change runtime type chooses one.",
        code: `
import shutil
import subprocess

HAS_GPU = shutil.which("nvidia-smi") is not None and subprocess.run(["nvidia-smi", "--list-gpus"]).returncode == 0
if NEED_GPU and not HAS_GPU:
    raise SystemExit("this session has no GPU: Runtime → Change runtime type → T4 GPU or better, or set NEED_GPU = False")`,
      },
      {
        title: "Mount Drive",
        text: "Outputs stay there when the session goes. Colab asks once whether this notebook may use it.",
        code: `
from google.colab import drive

drive.mount("${DRIVE_POINT}")`,
      },
      {
        title: "Git access",
        text: "By Colab's secret. The token is kept in a file of this session that only the runner reads.",
        code: gitAccess("GIT_SECRET"),
      },
      {
        title: "Clone",
        text: "tunestack for its runner, and the repository for what its experiments need.",
        code: `
TOOLS = "${CONTENT}/${folderName(tools)}"
${clone(pythonLiteral(tools), "TOOLS")}
CLONE = "${CONTENT}/queue/${name}"
${clone("REPOSITORY", "CLONE")}`,
      },
      {
        title: "Install",
        text: "What the experiments need and this session lacks. PyTorch stays as Colab has it.",
        code: `
${useTools("TOOLS")}
from pathlib import Path

from tunestack_train.colab import dependencies

dependencies.install(Path(CLONE), keep_torch=True)`,
      },
      {
        title: "Run the runner",
        text: "It works in the background from here on.",
        code: `
from tunestack_train.colab.daemon import Daemon
from tunestack_train.colab.drive import Drive

DRIVE = Drive(Path("${DRIVE_POINT}/MyDrive", DRIVE_FOLDER), Path("${DRIVE_POINT}"))
DRIVE.mount()
RUNNER = Daemon(
    [
        f"--repository={REPOSITORY}",
        f"--branch={BRANCH}",
        f"--poll={POLL}",
        "--state=${CONTENT}/runner",
        f"--outputs={DRIVE.folder}/outputs",
        "--secrets=${SECRETS_FOLDER}",
        *([] if HAS_GPU else ["--gpus-on-cpu"]),
        *(["--once"] if ONCE else []),
    ],
    DRIVE,
)
RUNNER.start()`,
      },
      {
        title: "Watch it",
        text: "Keeps the runner and Drive alive. Interrupting the cell stops the runner, which gives back what it has.",
        code: "RUNNER.watch()",
      },
    ],
    { gpu: true },
  );
}
