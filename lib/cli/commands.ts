/** The commands, one row each; what a command does is loaded when it runs. */
import { notNegative, oneOf, whole } from "./arguments";
import type { CommandRow } from "./main";

const text = (value: string) => value;

export const COMMANDS: readonly CommandRow[] = [
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
    summary: "eigenvalues at an end of an operator's spectrum, with residuals",
    examples: [
      "eigenscope spectrum model.onnx --data val.npz --loss cross-entropy --operator ggn --k 20",
      "eigenscope spectrum model.onnx --inputs images.idx3-ubyte --targets labels.idx1-ubyte \\\n" +
        "    --scale 1/255 --k 10 --which LA --precision float64 --vectors top.npy",
    ],
    groups: ["operator", "data", "loss", "model", "run"],
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
        "lanczos (default), krylov, subspace, nystrom",
        oneOf("lanczos", "krylov", "subspace", "nystrom"),
      ],
      [
        "--max-products <n>",
        "give up after so many (default 1000 + 50 k + 2 min(dim, 2000))",
        whole(1),
      ],
      ["--block-size <n>", "vectors a product (default by method)", whole(1)],
      ["--trace <n>", "also estimate the trace, with n random products", whole(2)],
      ["--vectors <file>", "where the eigenvectors go: .npy, (k, P)", text],
    ],
    load: () => require("./spectrum") as typeof import("./spectrum"),
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
];
