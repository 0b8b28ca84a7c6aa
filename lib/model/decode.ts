/** The bytes of an ONNX file as a checked description for the core. */

import { ModelFormatError } from "../errors";
import type {
  AttributeDescription,
  ModelDescription,
  NodeDescription,
  TensorDescription,
  ValueDescription,
} from "../native";
import { type BoundInput, bindInputs, type GivenConstant } from "./bind";
import { flattenControl, type Guard } from "./control";
import { ExternalFiles } from "./external";
import { inlineFunctions, onnxVersion, operatorName } from "./inline";
import {
  type AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from "./onnx_pb";
import { widenQuantized } from "./quantized";
import { parseModel } from "./read";
import { dataTypeName, elementTypeOf, TensorDecoder } from "./tensor";

/** Versions of ONNX's operators whose forms are known. */
export const OPSETS = { oldest: 1, newest: 28 } as const;

/** torch.export's word on each stored tensor: PARAMETER, BUFFER, CONSTANT_TENSOR. */
const KIND_KEY = "pkg.torch.export.graph_signature.InputSpec.kind";

export interface DecodedModel {
  description: ModelDescription;
  /** How many nodes of each operator the graph has, functions written out. */
  operators: Record<string, number>;
  irVersion: number;
  /** "pytorch 2.13.0". */
  producer: string;
  /** Inputs that constants took the place of. */
  bound: BoundInput[];
  warnings: string[];
}

/**
 * Decodes a model. Tensor data stays in `bytes` or in its external file.
 *
 * @param bytes the .onnx file
 * @param source its path, for messages
 * @param folder where external data lies; undefined refuses it
 * @param bind constants for inputs, by name
 * @throws ModelFormatError when the bytes are no valid ONNX model of a known version; OptionError for
 * constants that do not fit an input
 */
export function decodeModel(
  bytes: Uint8Array,
  source: string,
  folder: string | undefined,
  bind: ReadonlyMap<string, GivenConstant> = new Map(),
): DecodedModel {
  const model = parseModel(bytes, source);
  return new Decoder(model, source, folder).run(bind);
}

class Decoder {
  private readonly graph: GraphProto;
  private readonly tensors: TensorDecoder;
  private readonly warnings: string[] = [];
  private guards: ReadonlyMap<NodeProto, Guard[]> = new Map();

  constructor(
    private readonly model: ModelProto,
    private readonly source: string,
    folder: string | undefined,
  ) {
    this.graph = model.graph!;
    this.tensors = new TensorDecoder(source, new ExternalFiles(source, folder));
  }

  run(bind: ReadonlyMap<string, GivenConstant>): DecodedModel {
    const opset = this.opset();
    const bound = bindInputs(this.graph, bind, (value) => this.value(value, "input"));
    const open = bound.filter(({ shape }) => shape.some((length) => length < 0));
    const inline = inlineFunctions(this.model, this.source);
    const flat = flattenControl(inline(this.graph.node), {
      source: this.source,
      opset,
      graph: this.graph,
      inline,
    });
    this.guards = flat.guards;
    const widened = widenQuantized(flat.nodes, this.graph.initializer, this.tensors);
    flat.nodes = widened.nodes;
    this.warnings.push(...widened.warnings);
    const initializers = this.initializers([...flat.initializers, ...widened.tensors]);
    const stored = new Set(initializers.map(({ name }) => name));
    const inputs = this.graph.input
      .filter(({ name }) => !stored.has(name))
      .map((value) => this.value(value, "input"));
    const known = [...stored, ...[...inputs, ...open].map(({ name }) => name)];
    const nodes = this.ordered(flat.nodes, known);
    const produced = new Set(known);
    for (const node of nodes) for (const name of node.output) produced.add(name);
    const outputs = this.graph.output.map((value) => this.value(value, "output"));
    if (outputs.length === 0) this.fail("expected at least one output of the graph, got none");
    for (const { name } of outputs)
      if (!produced.has(name)) this.fail(`output ${name} is produced by no node`);

    const operators = new Map<string, number>();
    for (const { domain, opType } of nodes) {
      const name = operatorName(domain, opType);
      operators.set(name, (operators.get(name) ?? 0) + 1);
    }
    return {
      description: {
        source: this.source,
        opset,
        nodes: nodes.map((node) => this.node(node)),
        initializers,
        kinds: {
          ...this.kinds(stored),
          ...Object.fromEntries(bound.map(({ name }) => [name, "BOUND"])),
        },
        fills: open.map(({ name, type, shape, dimNames, values }) => ({
          ...{ name, type, dims: [...shape], dimNames: [...dimNames], number: Number(values[0]) },
        })),
        inputs,
        outputs,
      },
      operators: Object.fromEntries(
        [...operators].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)),
      ),
      irVersion: Number(this.model.irVersion),
      producer: `${this.model.producerName} ${this.model.producerVersion}`.trim(),
      bound,
      warnings: this.warnings,
    };
  }

  private opset(): number {
    const version = onnxVersion(this.model.opsetImport);
    const range = `an ONNX operator set (opset) from ${OPSETS.oldest} on`;
    if (version === undefined)
      this.fail(`expected ${range}, but the model names none; export it again`);
    if (version > OPSETS.newest)
      this.warnings.push(
        `its operators are of opset ${version}, of which those up to ${OPSETS.newest} are known; ` +
          "newer ones are taken as if nothing had changed: compare with `eigenscope verify`",
      );
    if (version < OPSETS.oldest)
      this.fail(
        `expected ${range}, got ${version}; export the model again with opset_version=17, or ` +
          "convert it with onnx.version_converter",
      );
    return version;
  }

  private initializers(
    ofBodies: readonly TensorProto[],
  ): { name: string; tensor: TensorDescription }[] {
    const result: { name: string; tensor: TensorDescription }[] = [];
    const seen = new Set<string>();
    const add = (name: string, tensor: () => TensorDescription) => {
      if (name === "") this.fail("an initializer has no name");
      if (seen.has(name)) this.fail(`there are two initializers named ${name}`);
      seen.add(name);
      result.push({ name, tensor: tensor() });
    };
    for (const tensor of [...this.graph.initializer, ...ofBodies])
      add(tensor.name, () => this.tensors.describe(tensor, tensor.name));
    for (const sparse of this.graph.sparseInitializer) {
      const name = sparse.values?.name ?? "";
      add(name, () => this.tensors.describeSparse(sparse, name));
    }
    return result;
  }

  private value(value: ValueInfoProto, what: string): ValueDescription {
    const type = value.type?.value;
    if (value.name === "") this.fail(`an ${what} of the graph has no name`);
    if (!type?.case)
      // The type of an output follows from the graph.
      return what === "output"
        ? { name: value.name, type: "float32", dims: null, dimNames: [] }
        : this.fail(`${what} ${value.name} has no type; export the model again`);
    if (type.case !== "tensorType")
      this.fail(`expected a tensor as ${what} ${value.name}, got a ${type.case.slice(0, -4)}`);
    const { elemType, shape } = type.value;
    const element = elementTypeOf(elemType) ?? (what === "output" ? "float32" : undefined);
    if (!element)
      this.fail(
        `expected ${what} ${value.name} to hold numbers or booleans, got ` +
          `${dataTypeName(elemType)}`,
      );
    if (!shape) return { name: value.name, type: element, dims: null, dimNames: [] };
    const dims: number[] = [];
    const dimNames: string[] = [];
    for (const { value: length } of shape.dim) {
      // Some exporters write 0 or -1 for a free length.
      const fixed = length.case === "dimValue" && length.value > 0n;
      if (fixed && !Number.isSafeInteger(Number(length.value)))
        this.fail(`the shape of ${what} ${value.name} has a length of ${length.value}`);
      dims.push(fixed ? Number(length.value) : -1);
      dimNames.push(length.case === "dimParam" ? length.value : "");
    }
    return { name: value.name, type: element, dims, dimNames };
  }

  private kinds(stored: ReadonlySet<string>): Record<string, string> {
    const kinds = new Map<string, string>();
    const rows = [...this.graph.input, ...this.graph.valueInfo, ...this.graph.initializer];
    for (const { name, metadataProps } of rows) {
      const kind = metadataProps.find(({ key }) => key === KIND_KEY)?.value;
      // "InputKind.PARAMETER" in some releases.
      if (kind && stored.has(name)) kinds.set(name, kind.slice(kind.lastIndexOf(".") + 1));
    }
    return Object.fromEntries(kinds);
  }

  /** The nodes so that each comes after those it needs; the file's order where that holds. */
  private ordered(nodes: readonly NodeProto[], known: readonly string[]): NodeProto[] {
    const producer = new Map<string, NodeProto>();
    const stored = new Set(known);
    for (const node of nodes)
      for (const name of node.output) {
        if (name === "") continue;
        if (producer.has(name) || stored.has(name))
          this.fail(`value ${name} is produced twice, the second time by ${nameOf(node)}`);
        producer.set(name, node);
      }
    const done = new Set<NodeProto>();
    const open = new Set<NodeProto>();
    const result: NodeProto[] = [];
    // Depth first without recursion: graphs are thousands of nodes deep.
    for (const first of nodes) {
      const stack: { node: NodeProto; next: number }[] = [{ node: first, next: 0 }];
      while (stack.length > 0) {
        const top = stack[stack.length - 1]!;
        if (done.has(top.node)) {
          stack.pop();
          continue;
        }
        open.add(top.node);
        const needs = this.needsOf(top.node);
        if (top.next === needs.length) {
          open.delete(top.node);
          done.add(top.node);
          result.push(top.node);
          stack.pop();
          continue;
        }
        const name = needs[top.next++]!;
        if (name === "" || stored.has(name)) continue;
        const needed = producer.get(name);
        if (!needed)
          this.fail(
            `node ${nameOf(top.node)} (${top.node.opType}) needs ${name}, which nothing produces`,
          );
        if (open.has(needed)) this.fail(`node ${nameOf(needed)} needs its own result`);
        stack.push({ node: needed, next: 0 });
      }
    }
    return result;
  }

  /** Its inputs, and the conditions that it stands under. */
  private needsOf(node: NodeProto): string[] {
    const guards = this.guards.get(node);
    return guards ? [...guards.map(({ condition }) => condition), ...node.input] : node.input;
  }

  private node(node: NodeProto): NodeDescription {
    if (node.opType === "") this.fail(`node ${nameOf(node)} names no operator`);
    const attributes: [string, AttributeDescription][] = [];
    for (const attribute of node.attribute) {
      const description = this.attribute(attribute, node);
      // Constants hold sparse tensors under another name.
      const name = attribute.name === "sparse_value" ? "value" : attribute.name;
      attributes.push([name, description]);
    }
    return {
      op: node.opType,
      domain: node.domain === "ai.onnx" ? "" : node.domain,
      name: nameOf(node),
      inputs: node.input,
      outputs: node.output,
      attributes: Object.fromEntries(attributes),
      guards: this.guards.get(node) ?? [],
    };
  }

  private attribute(attribute: AttributeProto, node: NodeProto): AttributeDescription {
    const name = node.output.find((output) => output !== "") ?? nameOf(node);
    switch (typeOf(attribute)) {
      case AttributeType.FLOAT:
        return { floats: Float64Array.of(attribute.f ?? 0) };
      case AttributeType.INT:
        return { ints: BigInt64Array.of(attribute.i ?? 0n) };
      case AttributeType.STRING:
        return { strings: [textOf(attribute.s)] };
      case AttributeType.FLOATS:
        return { floats: Float64Array.from(attribute.floats) };
      case AttributeType.INTS:
        return { ints: BigInt64Array.from(attribute.ints) };
      case AttributeType.STRINGS:
        return { strings: attribute.strings.map(textOf) };
      case AttributeType.TENSOR:
        if (!attribute.t) break;
        return { tensor: this.tensors.describe(attribute.t, name) };
      case AttributeType.SPARSE_TENSOR:
        if (!attribute.sparseTensor) break;
        return { tensor: this.tensors.describeSparse(attribute.sparseTensor, name) };
      default:
        // Graphs and types belong to operators that are not supported; those are listed as such.
        return {};
    }
    return this.fail(`attribute ${attribute.name} of node ${nameOf(node)} is empty`);
  }

  private fail(message: string): never {
    throw new ModelFormatError(`${this.source}: ${message}`);
  }
}

/** The oldest files give no type. */
function typeOf(attribute: AttributeProto): AttributeType {
  if (attribute.type !== AttributeType.UNDEFINED) return attribute.type;
  if (attribute.f !== undefined) return AttributeType.FLOAT;
  if (attribute.i !== undefined) return AttributeType.INT;
  if (attribute.s !== undefined) return AttributeType.STRING;
  if (attribute.t) return AttributeType.TENSOR;
  if (attribute.floats.length > 0) return AttributeType.FLOATS;
  if (attribute.ints.length > 0) return AttributeType.INTS;
  if (attribute.strings.length > 0) return AttributeType.STRINGS;
  return AttributeType.UNDEFINED;
}

function nameOf(node: NodeProto): string {
  return node.name || node.output.find((output) => output !== "") || node.opType;
}

const utf8 = new TextDecoder();
function textOf(bytes: Uint8Array | undefined): string {
  return utf8.decode(bytes ?? new Uint8Array());
}
