import { makeNotebook, type Notebook, pythonLiteral } from "./document.ts";
import { CONTENT, clone, DRIVE_POINT, folderName, gitAccess, setting, useTools } from "./shared-cells.ts";

/** What a training notebook is written for. */
export interface TrainNotebook {
  /** Address of tunestack's repository, whose tools the cells use. */
  readonly tools: string;
  /** Address of the repository that trains; undefined where that is tunestack itself. */
  readonly repository: string | undefined;
  /** Folder with requirements.txt, pyproject.toml or env.yaml, within the repository. Default: its root. */
  readonly needs: string;
  /** Optional groups of its pyproject.toml. */
  readonly extras: readonly string[];
  /** The training command; tunestack's own where it is undefined. */
  readonly command: string | undefined;
  /** Added to the command where there is a checkpoint; `{checkpoint}` stands for its path. */
  readonly resume: string;
  /** Folders of the repository that are links to Drive. */
  readonly links: readonly string[];
  /** Folder of the repository, among the links, that checkpoints are in. */
  readonly checkpoints: string;
  readonly run: string;
  readonly preset: string;
  readonly data: string;
  readonly set: Readonly<Record<string, string>>;
}

/** Folders that every training notebook keeps on Drive, unless it is told others. */
export const DEFAULT_LINKS: readonly string[] = ["weights", "data", "checkpoints"];

/** A thin wrapper around a repository's training: its code stays as it is, and what lasts is on Drive. */
export function trainNotebook(wanted: TrainNotebook): Notebook {
  const name = folderName(wanted.repository ?? wanted.tools);
  const folder = `${CONTENT}/${name}`;
  return makeNotebook(
    [
      {
        title: `Train ${name} in Colab`,
        text: `
Run the cells from top to bottom (Runtime → Run all). Weights, data and checkpoints lie on your Drive, so a session that
is cut off loses nothing: open the notebook again, run all cells, and the training goes on from its newest checkpoint.

Tokens come from Colab's secrets, the key at the left edge: \`GIT_TOKEN\` for a private repository, \`HF_TOKEN\` for gated
models, \`WANDB_API_KEY\` for Weights & Biases. None of them is needed where nothing asks for it.`,
      },
      {
        title: "Mount Drive",
        text: "Colab asks once whether this notebook may use your Drive.",
        code: `
from google.colab import drive

drive.mount("${DRIVE_POINT}")`,
      },
      {
        title: "Install",
        text: "Git's access by Colab's secret `GIT_TOKEN`, and tunestack's tools, which the cells below use.",
        code: `
${gitAccess('"GIT_TOKEN"')}

TOOLS = "${CONTENT}/${folderName(wanted.tools)}"
${clone(pythonLiteral(wanted.tools), "TOOLS")}
${useTools("TOOLS")}`,
      },
      {
        title: "Clone",
        text: "The repository, and what it needs that this session lacks. PyTorch stays as Colab has it.",
        code: `
from pathlib import Path

from tunestack_train.colab import dependencies

CLONE = "${folder}"
${wanted.repository === undefined ? "# tunestack trains itself: the clone above is the one." : clone(pythonLiteral(wanted.repository), "CLONE")}
dependencies.install(Path(CLONE, ${pythonLiteral(wanted.needs)}), ${pythonLiteral(wanted.extras)}, keep_torch=True)`,
      },
      {
        title: "Link",
        text: "Folders of Drive where the repository's code looks for them.",
        code: `
from tunestack_train.colab.drive import Drive
from tunestack_train.colab.links import link

DRIVE = Drive(Path("${DRIVE_POINT}/MyDrive/tunestack/${name}"), Path("${DRIVE_POINT}"))
DRIVE.mount()
print(*link(Path(CLONE), DRIVE.folder, ${pythonLiteral(wanted.links)}), sep="\\n")`,
      },
      {
        title: "Settings",
        text: "All that you may want to change. Run the cells below after a change.",
        code: settings(wanted),
      },
      {
        title: "W&B and Hugging Face",
        text: "Keys from Colab's secrets, for the libraries that ask for them.",
        code: `
from tunestack_train.colab.secrets import take_secrets

take_secrets({"WANDB_API_KEY": WANDB_SECRET, "HF_TOKEN": HUGGING_FACE_SECRET})`,
      },
      {
        title: "Train",
        text: "Goes on from the newest checkpoint where there is one. Interrupting the cell stops the training cleanly.",
        code: `
from tunestack_train.colab.session import train

train(
    COMMAND,
    folder=Path(CLONE),
    checkpoints=Path(CLONE, CHECKPOINTS),
    resume=RESUME,
    environment=ENVIRONMENT,
    drive=DRIVE,
)
DRIVE.flush()`,
      },
      {
        title: "Export the best model",
        text: "One file on Drive, in the folder `exports`, and for download.",
        code: `
from tunestack_train.colab.export import export, offer_download

MODEL = export(Path(CLONE, CHECKPOINTS), DRIVE.folder / "exports", RUN)
DRIVE.flush()
offer_download(MODEL)`,
      },
    ],
    { gpu: true },
  );
}

function settings(wanted: TrainNotebook): string {
  const secrets = [
    setting("WANDB_SECRET", "WANDB_API_KEY", "name of Colab's secret with the key of Weights & Biases"),
    setting("HUGGING_FACE_SECRET", "HF_TOKEN", "name of Colab's secret with the token of Hugging Face"),
  ];
  if (wanted.command !== undefined) {
    return [
      setting("RUN", wanted.run, "name of the exported model"),
      setting("COMMAND", wanted.command, "what trains, in the clone's folder"),
      setting("RESUME", wanted.resume, "added to the command where there is a checkpoint: {checkpoint} is its path"),
      setting("CHECKPOINTS", wanted.checkpoints, "folder of the clone that it saves checkpoints in"),
      setting("ENVIRONMENT", {}, "variables for the command"),
      ...secrets,
    ].join("\n");
  }
  return [
    setting("RUN", wanted.run, "name of the run; another name is another run"),
    setting("PRESET", wanted.preset, "rehearsal, gemma-2b or gemma-9b"),
    setting("DATA", wanted.data, "file or folder within the clone (data/… is on your Drive), or hub:ID"),
    setting("SET", wanted.set, "any setting of the training by its name"),
    ...secrets,
    "",
    "# What follows from them.",
    "import shlex",
    "",
    'COMMAND = shlex.join(["python", "-m", "tunestack_train", "run", f"--name={RUN}", f"--preset={PRESET}",',
    '                      f"--data={DATA}", *(f"--set={key}={value}" for key, value in SET.items())])',
    setting("RESUME", "", "a run of tunestack resumes by itself"),
    'CHECKPOINTS = f"checkpoints/{RUN}"',
    "ENVIRONMENT = {",
    '    "TUNESTACK_CHECKPOINTS_DIR": f"{CLONE}/checkpoints",',
    '    "TUNESTACK_LOGS_DIR": f"{CLONE}/logs",',
    '    "HF_HOME": f"{CLONE}/weights/huggingface",',
    "}",
  ].join("\n");
}
