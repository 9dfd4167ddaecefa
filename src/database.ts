import postgres from 'postgres';

export type Sql = postgres.Sql<{ bigint: string }>;

/** A pool on `url`; timestamps and bigints come as text, as PostgreSQL prints them. */
export function connect(url: string, options: postgres.Options<Record<string, never>> = {}): Sql {
  return postgres(url, {
    onnotice: () => {},
    connection: { application_name: 'collecta-webhooks' },
    ...options,
  }) as unknown as Sql;
}
