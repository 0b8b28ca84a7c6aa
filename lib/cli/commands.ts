/** All commands, in the order of --help. */
import { NETWORKS } from "./commands-networks";
import { SPECTRA } from "./commands-spectra";
import type { CommandRow } from "./main";

export const COMMANDS: readonly CommandRow[] = [...SPECTRA, ...NETWORKS];
