export declare const PULUMI_VERSION: string;
export declare const PROJECT_DIR: string;
export declare const PULUMI_HOME: string;
export declare const PULUMI_ROOT: string;
export declare const PASSPHRASE_FILE: string;
export declare function pulumiEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string>;
