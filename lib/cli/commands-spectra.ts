/** Commands that analyse one operator of a network, one row each. What a command does is loaded when it runs. */
import {
  countEnds,
  interval,
  notNegative,
  number,
  type OptionRow,
  oneOf,
  positive,
  text,
  whole,
} from "./arguments";
import type { CommandRow } from "./main";

/** When sampling ends. */
const SAMPLING: readonly OptionRow[] = [
  ["--tol <x>", "relative standard error to reach (trace: 0.01 by default)", notNegative],
  ["--standard-error <x>", "absolute standard error to reach", notNegative],
  ["--products <n>", "spend so many products instead, whatever the error", whole(1)],
  ["--max-products <n>", "give up after so many (default 1000)", whole(1)],
  ["--block-size <n>", "vectors a product (default 16)", whole(1)],
];

export const SPECTRA: readonly CommandRow[] = [
  {
    name: "inspect",
    summary: "parameters, operators and what is not supported; with data, split and memory",
    examples: [
      "eigenscope inspect model.onnx",
      "eigenscope inspect model.onnx --data val.npz --plan",
    ],
    groups: ["model", "data", "loss", "operator", "run"],
    options: [["--plan", "print the compiled programs; needs data, as they depend on shapes"]],
    load: () => require("./inspect") as typeof import("./inspect"),
  },
  {
    name: "verify",
    summary: "the forward pass against onnxruntime, derivatives against differences, identities",
    examples: ["eigenscope verify model.onnx --data val.npz --loss cross-entropy"],
    groups: ["data", "loss", "model", "run"],
    options: [],
    notes:
      "Computes in float64 unless --precision float32 is given, on the first 64 samples unless\n" +
      "--samples is given. Exit code 1 when a check fails.",
    load: () => require("./verify") as typeof import("./verify"),
  },

  {
    name: "product",
    summary: "products of an operator with given vectors",
    examples: ["eigenscope product model.onnx --data val.npz --vector v.npy --out hv.npy"],
    groups: ["operator", "data", "loss", "model", "run"],
    options: [
      ["--vector <file>", "a .npy file of shape (P,) or (K, P), in the order of inspect", text],
      ["--out <file>", "where the products go: .npy, of the same shape", text],
    ],
    load: () => require("./product") as typeof import("./product"),
  },
  {
    name: "spectrum",
    summary: "eigenvalues of an operator, at an end of its spectrum or inside, with error bounds",
    examples: [
      "eigenscope spectrum model.onnx --data val.npz --loss cross-entropy --operator ggn --k 20",
      "eigenscope spectrum model.onnx --inputs images.idx3-ubyte --targets labels.idx1-ubyte \\\n" +
        "    --scale 1/255 --k 10 --which LA --precision float64 --vectors top.npy",
      "eigenscope spectrum later.onnx --data val.npz --k 10 --start top.npy --checkpoint state.bin",
      "eigenscope spectrum model.onnx --data val.npz --interval 0.5,2 --out inside",
    ],
    groups: ["operator", "data", "loss", "model", "run", "out"],
    options: [
      ["--k <n>", "how many (default 10)", whole(1)],
      [
        "--which <w>",
        "LM largest magnitude (default), LA largest, SA smallest, BE both ends",
        oneOf("LM", "LA", "SA", "BE"),
      ],
      [
        "--tol <x>",
        "residual over the largest |value| (default 1e-5 in float32, 1e-9 in float64)",
        notNegative,
      ],
      [
        "--method <m>",
        "lanczos (default), krylov, subspace, nystrom, lobpcg, two-sketch",
        oneOf("lanczos", "krylov", "subspace", "nystrom", "lobpcg", "two-sketch"),
      ],
      [
        "--max-products <n>",
        "give up after so many (default 1000 + 50 k + 2 min(dim, 2000))",
        whole(1),
      ],
      ["--sigma <x>", "the eigenvalues nearest to x, in place of --which", number],
      ["--interval <a,b>", "all eigenvalues from a to b, at most --k (default 50)", interval],
      ["--start <file>", "vectors to begin with: .npy, (M, P), such as --vectors wrote", text],
      ["--deflate <file>", "vectors that the result is orthogonal to: .npy, (M, P)", text],
      ["--checkpoint <file>", "keeps the state of a long solve, to go on from with --resume", text],
      ["--resume <file>", "goes on from a state of the same solve", text],
      ["--block-size <n>", "vectors a product (default by method)", whole(1)],
      ["--trace <n>", "also estimate the trace, with n random products", whole(2)],
      ["--vectors <file>", "where the eigenvectors go: .npy, (k, P)", text],
    ],
    load: () => require("./spectrum") as typeof import("./spectrum"),
  },
  {
    name: "density",
    summary: "how many eigenvalues lie where: density, counts and masses, with errors",
    examples: [
      "eigenscope density model.onnx --data val.npz --probes 16 --out density",
      "eigenscope density model.onnx --data val.npz --operator ggn --axis log --count 1,inf \\\n" +
        "    --count 0.01,1 --below 1e-6",
    ],
    groups: ["operator", "data", "loss", "model", "run", "out"],
    options: [
      ["--probes <n>", "random vectors (default 8)", whole(1)],
      ["--steps <n>", "products a probe (default 64)", whole(1)],
      [
        "--method <m>",
        "slq (default): Lanczos quadrature; kpm: kernel polynomials",
        oneOf("slq", "kpm"),
      ],
      [
        "--axis <a>",
        "symlog (default), linear, or log for semi-definite operators",
        oneOf("symlog", "linear", "log"),
      ],
      ["--count <a,b...>", "eigenvalues from a to b; inf and -inf are ends, too", countEnds],
      ["--below <t...>", "share of eigenvalues with |lambda| <= t, and of their sum", notNegative],
      [
        "--kernel-width <x>",
        "of the smoothing, as a share of the range (default: from gaps)",
        positive,
      ],
      ["--threshold <x>", "where symlog turns linear (default 1e-4 of the largest)", positive],
      ["--points <n>", "of the grid (default 1024)", whole(2)],
      ["--probe-type <t>", "rademacher (default) or gaussian", oneOf("rademacher", "gaussian")],
    ],
    notes:
      "Densities count eigenvalues, a unit of lambda or a decade. --out also gets nodes.npy and\n" +
      "weights.npy (a row a probe), grid.npy, density.npy and its band, lower.npy and upper.npy.\n" +
      "Bases take at most a quarter of --max-memory (default 1 GiB).",
    load: () => require("./density") as typeof import("./density"),
  },
  {
    name: "trace",
    summary: "the trace of an operator, with a standard error and a 95 % interval",
    examples: [
      "eigenscope trace model.onnx --data val.npz --operator ggn --method xnystrace --tol 0.01",
      "eigenscope trace model.onnx --data val.npz --method hutchinson --products 200",
    ],
    groups: ["operator", "data", "loss", "model", "run", "out"],
    options: [
      [
        "--method <m>",
        "exact (default for ggn, fisher), xtrace (default), hutchinson, hutch++, xnystrace (ggn, fisher)",
        oneOf("exact", "xtrace", "hutchinson", "hutch++", "xnystrace"),
      ],
      ...SAMPLING,
    ],
    notes:
      "--tol is relative to the larger of |trace| and the Frobenius norm. exact comes from backward\n" +
      "passes of single samples for ggn and fisher, else from P products. Exit code 4 when the error asked for was not reached.",
    load: () => require("./trace") as typeof import("./trace"),
  },
  {
    name: "diagonal",
    summary: "the diagonal of an operator, with a standard error for each entry",
    examples: [
      "eigenscope diagonal model.onnx --data val.npz --operator hessian --products 256 --out diag",
      "eigenscope diagonal model.onnx --data val.npz --operator ggn --out diag",
    ],
    groups: ["operator", "data", "loss", "model", "run", "out"],
    options: [
      [
        "--method <m>",
        "exact (default for ggn, fisher), xdiag (default), hutchinson",
        oneOf("exact", "xdiag", "hutchinson"),
      ],
      ...SAMPLING,
    ],
    notes:
      "Without --tol, --standard-error and --products: 128 products. --tol is relative to the\n" +
      "norm of the diagonal. Writes diagonal.npy and standard-error.npy in the folder of --out.",
    load: () => require("./diagonal") as typeof import("./diagonal"),
  },
  {
    name: "anisotropy",
    summary: "how uneven a spectrum is: participation ratio, effective and stable ranks, decay",
    examples: [
      "eigenscope anisotropy model.onnx --data val.npz --operator fisher-type2",
      "eigenscope anisotropy model.onnx --data val.npz --operator ggn --by layer --out shape",
    ],
    groups: ["operator", "data", "loss", "model", "run", "out"],
    options: [
      [
        "--exact",
        "from all eigenvalues (default up to 3,000 parameters, or samples times outputs)",
      ],
      ["--estimate", "from random products and leading eigenpairs, with errors (default above)"],
      [
        "--by <group>",
        "for each tensor, layer, unit, or for the samples of each class",
        oneOf("tensor", "layer", "unit", "class"),
      ],
      ["--k <n>", "leading eigenpairs of an estimate (default 20)", whole(1)],
      ["--probes <n>", "random products of an estimate (default 64)", whole(2)],
    ],
    load: () => require("./anisotropy") as typeof import("./anisotropy"),
  },
  {
    name: "rank",
    summary: "the numerical rank, with the gap that it is read off; predictions; redundancy",
    examples: [
      "eigenscope rank model.onnx --data val.npz --loss mse --operator functional",
      'eigenscope rank model.onnx --data val.npz --params "fc2.*" --tol 1e-10',
      "eigenscope rank model.onnx --data val.npz --loss mse --parts",
      "eigenscope rank model.onnx --data val.npz --along checkpoints --out ranks",
      "eigenscope rank model.onnx --data val.npz --redundancy --out kernel",
    ],
    groups: ["operator", "data", "loss", "model", "run", "out"],
    options: [
      ["--tol <x>", "|lambda| over x times the largest counts (default P * 2^-52)", notNegative],
      [
        "--relative-to <x>",
        "what --tol is relative to (default: the largest |lambda|)",
        notNegative,
      ],
      ["--count", "estimate how many are above --tol (default 1e-4), from random products"],
      ["--probes <n>", "--count: random vectors (default 16)", whole(1)],
      ["--steps <n>", "--count: products a vector (default 64)", whole(1)],
      ["--parts", "H, its Gauss-Newton part H_o and the rest H_f, with predicted ranks"],
      ["--along <path...>", "--parts at checkpoints: folders, or files in order", text],
      ["--models <file...>", "--parts of other networks beside this one, on the same data", text],
      ["--no-generic", "--parts: predict by formulas alone, not at random parameters"],
      [
        "--redundancy",
        "what the kernel of ggn (default) or hessian is made of: symmetries, units, data",
      ],
    ],
    notes:
      "Needs all eigenvalues, and so P products and P^2 numbers of memory; choose some tensors by\n" +
      "--params otherwise, or --count. In float64; float32 is refused, as its rounding hides ranks.",
    load: () => require("./rank") as typeof import("./rank"),
  },
  {
    name: "solve",
    summary: "linear systems with an operator: the damped Newton or natural-gradient step",
    examples: [
      "eigenscope solve model.onnx --data val.npz --operator ggn --rhs gradient --damping 1e-3 --out step",
      "eigenscope solve model.onnx --data val.npz --rhs b.npy --method minres --precision float64",
    ],
    groups: ["operator", "data", "loss", "model", "run", "out"],
    options: [
      [
        "--rhs <file>",
        "a .npy file of shape (P,) or (K, P), or gradient (default), that of the loss",
        text,
      ],
      [
        "--method <m>",
        "cg (default for ggn and fisher), minres (default for the others), lsmr, neumann",
        oneOf("cg", "minres", "lsmr", "neumann"),
      ],
      [
        "--damping <x>",
        "solves with the operator plus x times the identity (default 0)",
        notNegative,
      ],
      [
        "--tol <x>",
        "residual over the right-hand side (default 1e-4 in float32, 1e-8 in float64)",
        notNegative,
      ],
      [
        "--max-products <n>",
        "give up after so many (default 1000 + min(10 P, 10000) a right-hand side)",
        whole(1),
      ],
      ["--preconditioner <p>", "nystrom: from a sketch; needs damping", oneOf("nystrom")],
      ["--rank <n>", "products and vectors of the sketch (default 20)", whole(1)],
      ["--tikhonov <x>", "lsmr: adds x^2 times the squared norm to the squares", notNegative],
      [
        "--series-scale <x>",
        "neumann: above half the largest eigenvalue (default: found)",
        notNegative,
      ],
    ],
    notes:
      "Writes the solutions to solution.npy in the folder of --out. Exit code 4 when a residual\n" +
      "stays above --tol.",
    load: () => require("./solve") as typeof import("./solve"),
  },
  {
    name: "kfac",
    summary: "Kronecker-factored curvature (KFAC, EKFAC): factors, spectrum, determinant",
    examples: [
      "eigenscope kfac model.onnx --data val.npz --loss cross-entropy --others diagonal",
      "eigenscope kfac model.onnx --data val.npz --corrected --damping 1e-3 --out factors",
    ],
    groups: ["data", "loss", "model", "run", "out"],
    options: [
      [
        "--type <t>",
        "of the Fisher matrix: type-2 (default), mc, empirical",
        oneOf("type-2", "mc", "empirical"),
      ],
      ["--draws <n>", "mc: targets drawn a sample (default 1)", whole(1)],
      ["--corrected", "correct the eigenvalues: EKFAC"],
      [
        "--sharing <s>",
        "of weights over positions: expand (default), reduce",
        oneOf("expand", "reduce"),
      ],
      ["--joint", "a layer's weight and bias in one block"],
      [
        "--others <o>",
        "tensors that no layer has: error (default), diagonal, identity",
        oneOf("error", "diagonal", "identity"),
      ],
      [
        "--damping <x>",
        "also the determinant of the matrix plus x times the identity",
        notNegative,
      ],
    ],
    notes:
      "With --out each block's factors are written: A of the inputs, B of the outputs, or bases and\n" +
      "eigenvalues; indices tell which parameters it is about.",
    load: () => require("./kfac") as typeof import("./kfac"),
  },
  {
    name: "ntk",
    summary: "the neural tangent kernel over the samples, or a dual matrix, and its spectrum",
    examples: [
      "eigenscope ntk model.onnx --data val.npz --samples 256 --precision float64",
      "eigenscope ntk model.onnx --data val.npz --samples 256 --rows ggn --out kernel",
    ],
    groups: ["data", "loss", "model", "run", "out"],
    options: [
      [
        "--rows <r>",
        "jacobian (default): of the output; ggn, empirical: of these matrices",
        oneOf("jacobian", "ggn", "empirical"),
      ],
      ["--k <n>", "eigenvalues shown (default 10)", whole(1)],
    ],
    notes:
      "The kernel has a row for each sample and output, and takes 16 bytes times their number\n" +
      "squared: choose --samples.",
    load: () => require("./ntk") as typeof import("./ntk"),
  },
  {
    name: "landscape",
    summary: "the loss along a line or over a plane through the parameters",
    examples: [
      "eigenscope landscape model.onnx --data val.npz --direction eigenvectors --range -2,2",
      "eigenscope landscape model.onnx --data val.npz --direction random --plane --out plane",
      "eigenscope landscape first.onnx --data val.npz --direction last.onnx --out path",
    ],
    groups: ["operator", "data", "loss", "model", "run", "out"],
    options: [
      [
        "--direction <d...>",
        "eigenvectors of the operator (default), random, a checkpoint (.onnx, .safetensors, .npz), vectors (.npy)",
        text,
      ],
      ["--eigenvector <n>", "begin with the n-th by magnitude (default 1)", whole(1)],
      ["--plane", "over two directions: the first two of a kind, or --direction twice"],
      ["--range <a,b>", "steps (default -1,1; to a checkpoint 0,1)", interval],
      ["--points <n>", "steps a direction (default 21, of a plane 11)", whole(2)],
      [
        "--scaling <s>",
        "of random ones: filter (default), layer, none",
        oneOf("filter", "layer", "none"),
      ],
      ["--biases", "random ones move biases and normalisations too"],
      ["--no-quadratic", "do not compute what gradient and Hessian predict"],
    ],
    notes:
      "Eigenvectors have length 1, random directions the length of each filter. With --out each point\n" +
      "is kept as it is computed, and the same command computes only what is missing.",
    load: () => require("./landscape") as typeof import("./landscape"),
  },
];
