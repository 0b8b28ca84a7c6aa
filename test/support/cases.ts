/** The reference cases of test/fixtures/cases: small networks with PyTorch's float64 results. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { LossName, Parameter } from "../../lib";

const ROOT = join(__dirname, "..", "fixtures", "cases");

export const caseNames = readdirSync(ROOT)
  .filter((name) => existsSync(join(ROOT, name, "case.json")))
  .sort();

interface CaseParameter {
  name: string;
  shape: number[];
  offset: number;
  size: number;
  onnx_initializer: string;
  onnx_is_transposed: boolean;
}

interface Listed {
  values: number[];
  n_samples?: number;
}

interface Meta {
  N: number;
  loss_kind: "ce" | "mse" | "mse1h";
  loss_value: number;
  grad_norm: number;
  num_params: number;
  parameters: CaseParameter[];
  hessian_top_eigs?: Listed;
  ggn_top_eigs?: Listed;
  hessian_bottom_eigs?: Listed;
}

const ARRAYS = { "<f8": Float64Array, "<f4": Float32Array, "<i8": BigInt64Array };

/** A little-endian .npy file in row-major order. */
export function readNpy(path: string): { shape: number[]; data: Float64Array } {
  const bytes = readFileSync(path);
  const wide = bytes[6] !== 1;
  const begin = (wide ? 12 : 10) + (wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  const head = bytes.toString("latin1", 10, begin);
  const type = /'descr':\s*'([^']+)'/.exec(head)![1] as keyof typeof ARRAYS;
  const shape = (/'shape':\s*\(([^)]*)\)/.exec(head)![1]!.match(/\d+/g) ?? []).map(Number);
  const copy = bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + bytes.length);
  return { shape, data: Float64Array.from(new ARRAYS[type](copy) as ArrayLike<number>, Number) };
}

export class Case {
  readonly meta: Meta;
  readonly #folder: string;

  constructor(name: string) {
    this.#folder = join(ROOT, name);
    this.meta = JSON.parse(readFileSync(this.path("case.json"), "utf8"));
  }

  path(file: string): string {
    return join(this.#folder, file);
  }

  get loss(): LossName {
    return this.meta.loss_kind === "ce" ? "cross-entropy" : "mse";
  }

  /** The rows of an array of vectors, in the order of the model's parameters; none if no file. */
  vectors(file: string, parameters: readonly Parameter[]): Float64Array[] {
    if (!existsSync(this.path(file))) return [];
    const order = this.#order(parameters);
    const { data } = readNpy(this.path(file));
    const size = this.meta.num_params;
    return Array.from({ length: data.length / size }, (_, k) =>
      Float64Array.from(order, (i) => data[k * size + i]!),
    );
  }

  /** For each entry of the model's vector, where the case has it. */
  #order(parameters: readonly Parameter[]): number[] {
    const order: number[] = [];
    for (const { name, shape } of parameters) {
      const of = this.meta.parameters.find((p) => p.onnx_initializer === name || p.name === name);
      if (!of) throw new Error(`the case has no parameter ${name}`);
      const [rows, columns] = shape as [number, number];
      for (let i = 0; i < of.size; i++) {
        const at = of.onnx_is_transposed ? (i % columns) * rows + Math.floor(i / columns) : i;
        order.push(of.offset + at);
      }
    }
    return order;
  }
}
