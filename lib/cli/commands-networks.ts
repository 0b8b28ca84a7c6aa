/** Commands on sub-networks, training, symmetries and several networks, one row each. What a command does is loaded when it runs. */
import {
  names,
  notNegative,
  number,
  numbers,
  type OptionRow,
  oneOf,
  positive,
  text,
  whole,
} from "./arguments";
import type { CommandRow } from "./main";
import { RECIPE } from "./recipe-options";

/** What masked networks are like. */
const PRUNED: OptionRow = [
  "--pruned <p>",
  "pruned weights become zero (default), initial, mean, initial-or-zero",
  oneOf("zero", "initial", "mean", "initial-or-zero"),
];
const KEPT: OptionRow = [
  "--kept <k>",
  "kept weights are final (default), or rewound: initial",
  oneOf("final", "initial"),
];

/** Data beside those of --data. */
const HELD_OUT: readonly OptionRow[] = [
  ["--test <file>", "data held out, as --data", text],
  ["--test-inputs <file...>", "data held out, as --inputs", text],
  ["--test-targets <file>", "data held out, as --targets", text],
  ["--test-samples <n>", "only the first n of them", whole(1)],
];

export const NETWORKS: readonly CommandRow[] = [
  {
    name: "masks",
    summary: "sub-networks by magnitude, change, gradient or curvature: masks, overlaps, curves",
    examples: [
      "eigenscope masks model.onnx --criterion magnitude,movement --initial init.onnx --keep 0.1 \\\n" +
        "    --out masks",
      "eigenscope masks model.onnx --criterion magnitude,obd --data val.npz --scope global \\\n" +
        "    --curve 0.5,0.2,0.1,0.05",
    ],
    groups: ["data", "loss", "model", "curvature", "run", "out"],
    options: [
      ["--criterion <names>", "by commas (default magnitude); all of them below", names],
      [
        "--initial <file>",
        "the parameters that training began with: .onnx, .safetensors, .npz",
        text,
      ],
      ["--keep <share>", "of the weights, over 0 and at most 1", positive],
      ["--count <n>", "so many instead", whole(0)],
      ["--threshold <x>", "those of a larger score instead", number],
      ["--counts <file>", "as many of each tensor as another mask keeps", text],
      [
        "--scope <s>",
        "the share is of each tensor: layer (default); global",
        oneOf("layer", "global"),
      ],
      ["--rounds <n>", "apply --keep so many times, each to what is left", whole(1)],
      ["--within <file>", "prune what another mask keeps", text],
      ["--structure <s>", "weights (default), outputs, inputs (whole units), or N:M as 2:4", text],
      ["--unit-biases", "outputs: a pruned unit loses its bias"],
      ["--min-rank <n>", "tensors of a smaller rank are kept whole (default 2)", whole(0)],
      ["--k <n>", "eigenvectors: so many (default 10)", whole(1)],
      ["--block-size <n>", "obs: entries a block (default 64)", whole(1)],
      ["--damping <x>", "obs: over the mean of the diagonal (default 1e-3)", notNegative],
      ["--format <f>", "of the masks: npz (default) or safetensors", oneOf("npz", "safetensors")],
      ["--curve <shares>", "loss and accuracy over these shares, by commas; needs data", numbers],
      [
        "--random <n>",
        "--curve: random masks that each point is held against (default 5)",
        whole(0),
      ],
      PRUNED,
      KEPT,
    ],
    notes:
      "Criteria: magnitude, large_final, small_final, large_init, small_init,\n" +
      "large_init_large_final, small_init_small_final, magnitude_increase, movement,\n" +
      "relative_change (of weights, many with _same_sign or _diff_sign), snip, grad, taylor,\n" +
      "taylor_abs (of gradients), obd, obs, fisher, eigenvectors, weighted_eigenvectors (of\n" +
      "curvature), random.\n" +
      "Curvature is that of --operator. --out gets a file a mask with an array\n" +
      "of booleans a tensor, layers.csv, overlaps.csv and curve.csv.",
    load: () => require("./masks") as typeof import("./masks"),
  },
  {
    name: "prune",
    summary: "a masked network written as a model, and its loss and accuracy",
    examples: [
      "eigenscope prune model.onnx --mask masks/magnitude.npz --out pruned.onnx --data val.npz",
    ],
    groups: ["data", "loss", "model", "run"],
    options: [
      ["--mask <file>", "of eigenscope masks: .npz or safetensors", text],
      ["--out <file>", "where the pruned model goes: .onnx", text],
      [
        "--initial <file>",
        "the parameters that training began with: .onnx, .safetensors, .npz",
        text,
      ],
      PRUNED,
      KEPT,
    ],
    notes: "Everything but the parameters stays as it is in the file.",
    load: () => require("./prune") as typeof import("./prune"),
  },
  {
    name: "subnetworks",
    summary: "sub-networks' curvature, symmetry breaking of layers, and a table that links them",
    examples: [
      "eigenscope subnetworks model.onnx --data val.npz --initial init.onnx --out links",
      "eigenscope subnetworks model.onnx --data val.npz --parts curvature --mask masks/magnitude.npz",
      "eigenscope subnetworks seed0.onnx --models seed1.onnx --models seed2.onnx --data val.npz \\\n" +
        "    --parts link",
      "eigenscope subnetworks model.onnx --data val.npz --parts course --checkpoints run",
    ],
    groups: ["curvature", "data", "loss", "model", "run", "out"],
    options: [
      ["--parts <names>", "by commas: curvature, breaking, course, link (default: all)", names],
      ["--mask <file>", "curvature: of this sub-network, as eigenscope masks writes them", text],
      [
        "--criterion <names>",
        "sub-networks of the table, by commas; curvature is of the first (default magnitude, " +
          "movement with --initial, fisher)",
        names,
      ],
      ["--keep <share>", "of the weights that they keep (default 0.1)", positive],
      [
        "--scope <s>",
        "curvature: the share is of each layer (default), or global as in the table",
        oneOf("layer", "global"),
      ],
      [
        "--initial <file...>",
        "the parameters that training began with; again for each of --models, in order",
        text,
      ],
      [
        "--models <file...>",
        "link: further networks, or checkpoints of the first, such as other seeds",
        text,
      ],
      ["--checkpoints <folder>", "course: symmetry breaking at each of these", text],
      ["--k <n>", "eigenvalues and eigenvectors (default 10)", whole(1)],
      ["--max-exact <n>", "curvature: all eigenvalues up to this order (default 500)", whole(1)],
      ["--conditional", "curvature: also when the other weights follow, whatever it costs"],
      [
        "--damping <x>",
        "of that, over the largest eigenvalue (default 1e-3 where needed)",
        notNegative,
      ],
      [
        "--random-masks <n>",
        "curvature: whose largest eigenvalue is shown beside (default 3)",
        whole(0),
      ],
      ["--random <n>", "breaking: random networks of each kind (default 20)", whole(0)],
      [
        "--exchange <what>",
        "link: layers are permuted within networks (default), or alike in architectures",
        oneOf("networks", "architectures"),
      ],
      ["--correction <c>", "link: holm (default) or bh", oneOf("holm", "bh")],
      ["--level <x>", "link: of significance (default 0.05)", positive],
      ["--permutations <n>", "link: random ones where not all are tried (default 9999)", whole(1)],
    ],
    notes:
      "--out gets spectra, tensors, vectors, breaking, course, layers\n" +
      "and correlations as .csv, and figures of spectra, course, layers and correlations.",
    load: () => require("./subnetworks") as typeof import("./subnetworks"),
  },
  {
    name: "train",
    summary: "SGD, Adam or AdamW as in torch.optim, with masks, checkpoints and resume",
    examples: [
      "eigenscope train model.onnx --data train.npz --test val.npz --initial random --seed 1 \\\n" +
        "    --learning-rate 0.05 --momentum 0.9 --schedule cosine --epochs 10 --out trained",
      "eigenscope train model.onnx --data train.npz --epochs 20 --checkpoints run --every 500 --resume",
      "eigenscope train init.onnx --data train.npz --mask masks/magnitude.npz --out ticket",
    ],
    groups: ["data", "loss", "model", "out"],
    options: [
      ...RECIPE,
      [
        "--initial <file>",
        "where to begin: .onnx, .safetensors, .npz, or random (default: the model as it is)",
        text,
      ],
      [
        "--scheme <s>",
        "--initial random: pytorch (default), kaiming-normal, xavier",
        oneOf("pytorch", "kaiming-normal", "xavier"),
      ],
      ["--first-step <n>", "the step that --initial is of, where it is of a run", whole(0)],
      ["--mask <file>", "what it does not keep is held: .npz, .safetensors", text],
      ["--held <v>", "held at zero (default), initial, or at the numbers of a checkpoint", text],
      ["--checkpoints <folder>", "writes step-N.safetensors there, from step 0 on", text],
      ["--every <n>", "steps between two checkpoints (default: an epoch)", whole(1)],
      ["--resume", "go on from the last checkpoint, to the same bits"],
      [
        "--evaluate-every <n>",
        "steps between two lines of the table (default: an epoch)",
        whole(1),
      ],
    ],
    notes:
      "Training sees the graph of the file: BatchNormalization keeps its statistics, Dropout does\n" +
      "nothing. The order of samples follows from --seed alone, and results do not depend on\n" +
      "--threads. --out gets trained.safetensors, trained.onnx, losses, history.csv and figures.",
    load: () => require("./train") as typeof import("./train"),
  },
  {
    name: "lottery",
    summary: "lottery tickets: prune, rewind and train again, beside random and new ones",
    examples: [
      "eigenscope lottery model.onnx --data train.npz --test val.npz --optimizer adam \\\n" +
        "    --learning-rate 0.0012 --epochs 5 --rounds 12 --seeds 5 --out tickets",
      "eigenscope lottery model.onnx --data train.npz --keep 0.5,0.1,0.02 --rewind 100 \\\n" +
        "    --controls random,reinitialised,one-shot --out tickets",
    ],
    groups: ["data", "loss", "model", "out"],
    options: [
      ...RECIPE,
      ["--seeds <n>", "networks of different weights and orders of samples (default 5)", whole(1)],
      ["--share <x>", "of what is left, pruned each round (default 0.2)", positive],
      ["--rounds <n>", "how many (default 10)", whole(1)],
      ["--keep <shares>", "shares to keep instead, by commas, from large to small", numbers],
      ["--rewind <n>", "the step whose weights tickets begin with (default 0)", whole(0)],
      ["--criterion <name>", "of eigenscope masks (default magnitude)", text],
      [
        "--scope <s>",
        "a round's share is of all weights: global (default); of each tensor: layer",
        oneOf("global", "layer"),
      ],
      [
        "--controls <names>",
        "by commas: random, reinitialised (both by default), one-shot; none",
        names,
      ],
      [
        "--scheme <s>",
        "initial weights: pytorch (default), kaiming-normal, xavier",
        oneOf("pytorch", "kaiming-normal", "xavier"),
      ],
    ],
    notes:
      "Each network begins anew: the model's own weights do not count. random: a random mask that\n" +
      "keeps as many of each tensor, at the ticket's initial weights; reinitialised: the ticket's mask\n" +
      "at other initial weights; one-shot: pruned at once. The expected time is said before it starts.\n" +
      "With --out each finished run is kept, and the same command goes on with what is missing.",
    load: () => require("./lottery") as typeof import("./lottery"),
  },
  {
    name: "trajectory",
    summary: "the path of training: geometry, curvature along it, charges, masks, predictions",
    examples: [
      "eigenscope trajectory model.onnx checkpoints --out path",
      "eigenscope trajectory model.onnx checkpoints --data val.npz --operator fisher-type2 --k 20 \\\n" +
        "    --learning-rate 0.1 --out path",
      "eigenscope trajectory model.onnx run1 --data val.npz --parts predictions --run run2 --out map",
    ],
    files: ["checkpoints", "a folder, or files in order: .onnx, .safetensors, .npz, .npy"],
    groups: ["data", "loss", "model", "operator", "run", "out"],
    options: [
      ["--parts <names>", "by commas: geometry, curvature, charges, masks, predictions", names],
      ["--steps <n,n>", "the step of each checkpoint (default: numbers in names)", numbers],
      [
        "--by <group>",
        "geometry: of each layer (default), tensor, or none",
        oneOf("layer", "tensor", "none"),
      ],
      ["--components <n>", "geometry: principal components (default 10)", whole(1)],
      ["--k <n>", "curvature: leading eigenpairs (default 10)", whole(1)],
      [
        "--which <w>",
        "curvature: LA largest (default), LM of largest magnitude",
        oneOf("LA", "LM"),
      ],
      ["--spectra <n>", "curvature: at so many checkpoints, evenly (default: all)", whole(2)],
      ["--tol <x>", "curvature: residual over the largest |value|", notNegative],
      ["--max-products <n>", "curvature: give up after so many a checkpoint", whole(1)],
      ["--learning-rate <x>", "of plain descent (default: that of a run of train)", positive],
      ["--momentum <x>", "of heavy-ball descent (default 0)", notNegative],
      [
        "--weight-decay <x>",
        "added to the gradient, times the parameters (default 0)",
        notNegative,
      ],
      ["--batch-size <n>", "charges: samples a step", whole(1)],
      ["--noise <n>", "curvature: gradient noise against it, from n random vectors", whole(2)],
      ["--criterion <names>", "masks: by commas (default magnitude,movement)", names],
      ["--keep <share>", "masks: of the weights (default 0.1)", positive],
      [
        "--scope <s>",
        "masks: the share is of each tensor: layer (default); global",
        oneOf("layer", "global"),
      ],
      ["--structure <s>", "masks: weights (default), outputs, inputs, or N:M as 2:4", text],
      ["--threshold <x>", "masks: settled at this IoU with the last (default 0.9)", notNegative],
      ["--run <name=folder...>", "predictions: other runs of the network beside this one", text],
    ],
    notes:
      "Without data: geometry, charges and masks. --out keeps the eigenpairs of each checkpoint, and the\n" +
      "same command computes only what is missing; it also gets tables (.csv) and figures (.svg).\n" +
      "Exit code 4 when eigenpairs did not converge at a checkpoint.",
    load: () => require("./trajectory") as typeof import("./trajectory"),
  },
  {
    name: "symmetry",
    summary:
      "what leaves the function as it is: permutations, rescalings, gauges, shifts; identities",
    examples: [
      "eigenscope symmetry model.onnx",
      "eigenscope symmetry model.onnx --data val.npz --verify",
      "eigenscope symmetry model.onnx --checkpoints checkpoints --out charges",
    ],
    groups: ["data", "loss", "model", "curvature", "run", "out"],
    options: [
      ["--verify", "the identities of every symmetry on the data; exit code 1 when one fails"],
      ["--combinations <n>", "--verify: of the generators of each (default 3)", whole(1)],
      ["--tol <x>", "--verify: residuals up to here hold (default 1e-9)", notNegative],
      ["--kernel", "eigenvalues with and without the directions of symmetries; needs data"],
      [
        "--checkpoints <file...>",
        "drift of what is conserved: a folder, or a file each time, in order",
        text,
      ],
      ["--details", "every instance with its tensors, and what keeps its places, and why"],
    ],
    notes:
      "Data are needed for --verify and --kernel, and where the file leaves lengths free; everything\n" +
      "else is read off the graph. Symmetries of the loss are those of --loss. --kernel takes the\n" +
      "operator ggn by default, and P^2 numbers of memory. --out gets charges and figures.",
    load: () => require("./symmetry") as typeof import("./symmetry"),
  },
  {
    name: "align",
    summary:
      "the units of one network matched with another's; loss and eigenspaces before and after",
    files: ["other", "the second network: .onnx, or its parameters: .safetensors, .npz"],
    examples: [
      "eigenscope align first.onnx second.onnx --data val.npz --out aligned",
      "eigenscope align first.onnx second.safetensors --data val.npz --method activations --k 0",
      "eigenscope align narrow.onnx wide.onnx --method fusion --scaling sum --data val.npz",
    ],
    groups: ["data", "loss", "model", "operator", "run", "out"],
    options: [
      [
        "--method <m>",
        "weights (default), activations, fusion (optimal transport; widths may differ)",
        oneOf("weights", "activations", "fusion"),
      ],
      [
        "--similarity <s>",
        "activations: correlation (default), product",
        oneOf("correlation", "product"),
      ],
      [
        "--costs <c>",
        "fusion: distances of weights (default), activations",
        oneOf("weights", "activations"),
      ],
      [
        "--regularisation <x>",
        "fusion: Sinkhorn's, over the largest cost (default 0: exact)",
        notNegative,
      ],
      [
        "--scaling <s>",
        "fusion: readers of merged units get the mean of weights (default), or the sum",
        oneOf("mean", "sum"),
      ],
      ["--share <x>", "of the second in the fused network (default 0.5)", notNegative],
      ["--points <n>", "steps between the networks (default 11)", whole(3)],
      ["--layers", "also with one layer moved alone"],
      [
        "--statistics <s>",
        "running ones on the way: interpolated (default), or recomputed on the data",
        oneOf("interpolated", "recomputed"),
      ],
      ["--k <n>", "eigenvectors whose spaces are compared (default 10; 0: none)", whole(0)],
      ["--test-data <file>", "barriers on other data as well", text],
      ["--test-inputs <file...>", "the same in files of their own", text],
      ["--test-targets <file>", "and their targets", text],
    ],
    notes:
      "Without data the units are matched, and nothing more. --out gets aligned.onnx (the second\n" +
      "network in the units of the first) and fused.onnx, permutations.json (in the sequence in which they\n" +
      "are applied), interpolation.csv and a figure of the loss between the networks.",
    load: () => require("./align") as typeof import("./align"),
  },
  {
    name: "generalization",
    summary: "what curvature says of generalisation: TIC, leave-one-out, sharpness, PAC-Bayes",
    examples: [
      "eigenscope generalization model.onnx --data train.npz --test test.npz --shifted noise:0.3",
      "eigenscope generalization model.onnx --data few.npz --parts leave-one-out --damping 1e-3",
      "eigenscope generalization model.onnx --data train.npz --parts pac-bayes --initial init.onnx",
    ],
    groups: ["curvature", "data", "loss", "model", "run", "out"],
    options: [
      [
        "--parts <names>",
        "spectrum, sharpness, leave-one-out, pac-bayes (default spectrum,sharpness; pac-bayes with --initial)",
        names,
      ],
      ...HELD_OUT,
      [
        "--shifted <s...>",
        "other data: a file, or noise:SIGMA, rotate:DEGREES of the data held out (or given)",
        text,
      ],
      ["--initial <file>", "the parameters that training began with, mean of the prior", text],
      ["--damping <z>", "of inverses (default 1e-3 of the largest; leave-one-out: 0)", positive],
      ["--exact", "spectrum: from all eigenvalues (default up to order 3,000)"],
      ["--estimate", "spectrum: from random products, with errors (default above)"],
      ["--probes <n>", "--estimate: random vectors (default 8)", whole(1)],
      ["--steps <n>", "--estimate: products a vector (default 64)", whole(1)],
      ["--gradients <n>", "--estimate: gradients of each data set (default 32)", whole(1)],
      ["--rho <x>", "sharpness: radius of the ball (default 0.05)", notNegative],
      ["--adaptive-rho <x>", "sharpness: radius of the scaled ball (default 0.5)", notNegative],
      [
        "--shape <s>",
        "pac-bayes: variances by ggn (default), fisher-empirical, isotropic",
        oneOf("ggn", "fisher-empirical", "isotropic"),
      ],
      ["--failure <p>", "pac-bayes: chance that the bound fails (default 0.025)", positive],
      [
        "--failure-estimate <p>",
        "pac-bayes: that its estimate of the risk fails (default 0.01)",
        positive,
      ],
      ["--networks <n>", "pac-bayes: networks drawn (default 3000)", whole(1)],
    ],
    notes:
      "--operator is the matrix A of inverses and sharpness. --data has to be\n" +
      "all data that the network was trained on for pac-bayes, and --initial must not depend on it.\n" +
      "--out gets tables (.csv), leverages and losses (.npy) and figures.",
    load: () => require("./generalization") as typeof import("./generalization"),
  },
  {
    name: "double-descent",
    summary: "models of growing size: test loss, smallest eigenvalue and tr(H^+)/n",
    subject: ["problem", "least-squares, random-features, or networks"],
    examples: [
      "eigenscope double-descent least-squares --parameters 50 --sizes 25,40,50,60,100,200",
      "eigenscope double-descent random-features --inputs images --targets labels --scale 1/255 \\\n" +
        "    --samples 500 --test-inputs images2 --test-targets labels2 --sizes 50,500,5000 --label-noise 0.2",
    ],
    groups: ["data", "run", "out"],
    options: [
      ["--sizes <list>", "hidden units by commas; least-squares: samples", numbers],
      ["--repeats <n>", "runs a size (default 3; least-squares: 50)", whole(1)],
      ...HELD_OUT,
      [
        "--label-noise <share>",
        "of the training labels that are made wrong (default 0)",
        notNegative,
      ],
      ["--pool <n>", "images become means over squares of n pixels a side (default 1)", whole(1)],
      ["--parameters <n>", "least-squares: p (default 50)", whole(1)],
      ["--noise <x>", "least-squares: of the targets (default 0.5)", notNegative],
      ["--weight-norm <x>", "least-squares: of the true weights (default 1)", notNegative],
      ["--epochs <n>", "networks (default 2000)", whole(1)],
      ["--learning-rate <x>", "networks (default 0.1)", positive],
      ["--momentum <x>", "networks (default 0.9)", notNegative],
      ["--batch-size <n>", "networks (default 64)", whole(1)],
      ["--json", "one JSON document on standard output, and nothing else"],
    ],
    notes:
      "With --out each run is kept as it is computed, and the same command computes only what is\n" +
      "missing; points.csv and figures are written there.",
    load: () => require("./double-descent") as typeof import("./double-descent"),
  },
  {
    name: "compare",
    summary:
      "several networks on one data set: loss, ranks, spectra, anisotropy, symmetries, a row each",
    files: ["others", "further networks"],
    examples: [
      "eigenscope compare mlp.onnx lenet.onnx resnet.onnx --data val.npz --out comparison",
      "eigenscope compare small.onnx large.onnx --data val.npz --operators ggn --max-exact 4000",
    ],
    groups: ["data", "loss", "model", "run", "out"],
    options: [
      ["--operators <names>", "by commas: hessian, ggn (default both), functional", names],
      ["--k <n>", "leading eigenvalues (default 10)", whole(1)],
      [
        "--max-exact <n>",
        "the largest matrix that is decomposed as a whole (default 2000)",
        whole(1),
      ],
      ["--tol <x>", "estimated ranks: what counts, over the largest (default 1e-3)", notNegative],
      ["--probes <n>", "estimates: random vectors (default 16 for ranks, else 64)", whole(2)],
    ],
    notes:
      "Exact ranks and measures are computed in float64 from whole spectra; larger networks get estimates\n" +
      "with their errors. What fails for one network says why, and the others go on. With --out each row\n" +
      "is kept as it is done, and the same command computes only what is missing.",
    load: () => require("./compare") as typeof import("./compare"),
  },
];
