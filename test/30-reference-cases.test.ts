// Networks of many kinds: loss, gradient, products and eigenvalues against PyTorch's in float64.
import {
  type DataSet,
  type Dtype,
  eigsh,
  fisher,
  functionalHessian,
  ggn,
  gradient,
  hessian,
  type LinearOperator,
  loadData,
  loadModel,
  loss,
  type Model,
} from "../lib";
import { Case, caseNames } from "./support/cases";
import { errorOf, maxAbs } from "./support/numbers";

const BARS: [Dtype, number][] = [
  ["float64", 1e-10],
  ["float32", 5e-5],
];

type Make = (precision: Dtype) => LinearOperator;

describe.each(caseNames)("%s", (name) => {
  const reference = new Case(name);
  let model: Model;
  let data: DataSet;
  let operators: Record<string, Make>;
  beforeAll(async () => {
    model = await loadModel(reference.path("model.onnx"), { loss: reference.loss });
    data = await loadData({ x: reference.path("x.npy"), y: reference.path("y.npy") });
    operators = {
      hv: (precision) => hessian(model, data, { precision }),
      ggnv: (precision) => ggn(model, data, { precision }),
      fisherv: (precision) => fisher(model, data, { type: "type-2", precision }),
      efv: (precision) => fisher(model, data, { type: "empirical", precision }),
    };
  });
  afterAll(() => {
    model.dispose();
    data.dispose();
  });

  const vectors = (file: string) => reference.vectors(`${file}.npy`, model.parameters);

  async function products(make: Make, precision: Dtype): Promise<Float64Array[]> {
    using operator = make(precision);
    const given = vectors("v");
    const flat = given.flatMap((v) => Array.from(v));
    const block = precision === "float32" ? Float32Array.from(flat) : Float64Array.from(flat);
    const result = await operator.apply(block);
    return given.map((v, k) =>
      Float64Array.from(result.subarray(k * v.length, (k + 1) * v.length)),
    );
  }

  test.each(BARS)("%s loss and gradient", async (precision, bar) => {
    const { meta } = reference;
    expect(model.parameterCount).toBe(meta.num_params);
    const found = await gradient(model, data, { precision });
    expect(errorOf([found.loss], [meta.loss_value])).toBeLessThan(bar);
    expect(errorOf([found.norm], [meta.grad_norm])).toBeLessThan(bar);
    const [want] = vectors("grad");
    expect(errorOf(found.gradient, want!)).toBeLessThan(bar);
    expect(errorOf([await loss(model, data, { precision })], [meta.loss_value])).toBeLessThan(bar);
  });

  test.each(BARS)("%s products", async (precision, bar) => {
    const errors: Record<string, number> = {};
    for (const [file, make] of Object.entries(operators)) {
      const wanted = vectors(file);
      const got = await products(make, precision);
      if (file !== "fisherv") expect(wanted.length).toBeGreaterThan(0);
      errors[file] = Math.max(0, ...wanted.map((want, k) => errorOf(got[k]!, want)));
    }
    // The functional part is stored as a difference, and so judged on the scale of the Hessian.
    const [hv, ggnv] = [vectors("hv"), vectors("ggnv")];
    const make: Make = (p) => functionalHessian(model, data, { precision: p });
    const got = await products(make, precision);
    const rows = Math.min(hv.length, ggnv.length);
    for (let k = 0; k < rows; k++) {
      const want = hv[k]!.map((value, i) => value - ggnv[k]![i]!);
      const error = errorOf(got[k]!, want, maxAbs(hv[k]!));
      errors.functional = Math.max(errors.functional ?? 0, error);
    }
    for (const [file, error] of Object.entries(errors))
      expect({ file, error, fits: error < bar }).toEqual({ file, error, fits: true });
  });

  test.each([
    ["hessian", "LA", "hessian_top_eigs"],
    ["ggn", "LA", "ggn_top_eigs"],
    ["hessian", "SA", "hessian_bottom_eigs"],
  ] as const)("eigenvalues of %s, %s", async (kind, which, key) => {
    const listed = reference.meta[key]!;
    const sign = which === "SA" ? 1 : -1;
    const want = listed.values
      .slice()
      .sort((a, b) => sign * (a - b))
      .slice(0, 10);
    using part = await loadData(
      { x: reference.path("x.npy"), y: reference.path("y.npy") },
      { samples: listed.n_samples ?? reference.meta.N },
    );
    const make = kind === "ggn" ? ggn : hessian;
    using operator = make(model, part, { precision: "float64" });
    const found = await eigsh(operator, { k: want.length, which, tol: 1e-10 });
    expect(found.converged).toBe(true);
    expect(errorOf(found.values, want)).toBeLessThan(1e-8);
    expect(maxAbs(found.residuals)).toBeLessThan(1e-9 * found.scale);
  });
});
