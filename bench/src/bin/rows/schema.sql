-- The model of modules/mod-notes and of its accounts, as a team with PostgreSQL would write it: one role for the
-- application, row level security on what people reach through it, and the caller in app.account for one transaction.

CREATE ROLE app LOGIN NOSUPERUSER NOBYPASSRLS;

CREATE TABLE account (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE CHECK (length(email) BETWEEN 3 AND 254),
    password text NOT NULL,
    display_name text NOT NULL,
    verified boolean NOT NULL DEFAULT false
);

CREATE TABLE session (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    refresh_hash bytea NOT NULL,
    device_name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX session_of_account ON session (account_id);

CREATE TABLE org (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100)
);

CREATE TABLE project (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES org,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    UNIQUE (org_id, id)
);

-- Who holds what: 1 GUEST, 2 USER, 3 ADMIN, in a project or, without one, in the whole org.
CREATE TABLE member (
    account_id uuid NOT NULL REFERENCES account,
    org_id uuid NOT NULL REFERENCES org,
    project_id uuid,
    role smallint NOT NULL CHECK (role BETWEEN 1 AND 3),
    FOREIGN KEY (org_id, project_id) REFERENCES project (org_id, id),
    UNIQUE NULLS NOT DISTINCT (account_id, org_id, project_id)
);
CREATE INDEX member_of_org ON member (org_id, project_id);

CREATE TABLE note (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    author_id uuid NOT NULL REFERENCES account,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    published boolean NOT NULL,
    draft text NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    FOREIGN KEY (org_id, project_id) REFERENCES project (org_id, id)
);
CREATE INDEX note_of_org ON note (org_id, id);
CREATE INDEX note_of_project ON note (org_id, project_id, id);
CREATE INDEX note_published ON note (org_id, published, id);
CREATE INDEX note_of_author ON note (author_id);
CREATE INDEX note_words ON note USING gin (to_tsvector('simple', title));

CREATE TABLE audit (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    org_id uuid,
    account_id uuid NOT NULL,
    session_id uuid NOT NULL,
    method text NOT NULL,
    record_id uuid
);

-- The caller of this transaction; it fails where nobody has been set.
CREATE FUNCTION caller() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN current_setting('app.account')::uuid;

-- Owned by who owns the tables, so that a policy of member may ask it without asking itself.
CREATE FUNCTION administers(org uuid, project uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public
    RETURN EXISTS (
        SELECT FROM member
        WHERE account_id = caller() AND org_id = org AND (project_id IS NULL OR project_id = project) AND role = 3);
CREATE FUNCTION belongs(account uuid, org uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public
    RETURN EXISTS (SELECT FROM member WHERE account_id = account AND org_id = org);

ALTER TABLE note ENABLE ROW LEVEL SECURITY;
ALTER TABLE member ENABLE ROW LEVEL SECURITY;

-- Arrays of what the caller holds, made at most once for each statement, and only where they are asked for.
CREATE POLICY note_read_project ON note FOR SELECT TO app USING (project_id = ANY (ARRAY(
    SELECT m.project_id FROM member m WHERE m.account_id = caller() AND m.role >= 2)));
CREATE POLICY note_read_org ON note FOR SELECT TO app USING (org_id = ANY (ARRAY(
    SELECT m.org_id FROM member m WHERE m.account_id = caller() AND m.role >= 2 AND m.project_id IS NULL)));
CREATE POLICY note_read_published ON note FOR SELECT TO app USING (published AND org_id = ANY (ARRAY(
    SELECT m.org_id FROM member m WHERE m.account_id = caller())));
CREATE POLICY note_create ON note FOR INSERT TO app WITH CHECK (author_id = caller() AND EXISTS (
    SELECT FROM member m
    WHERE m.account_id = caller() AND m.org_id = note.org_id
        AND (m.project_id IS NULL OR m.project_id = note.project_id) AND m.role >= 2));

CREATE POLICY member_read ON member FOR SELECT TO app
    USING (account_id = caller() OR administers(org_id, project_id));
CREATE POLICY member_create ON member FOR INSERT TO app WITH CHECK (
    account_id <> caller() AND administers(org_id, project_id) AND belongs(account_id, org_id));
CREATE POLICY member_update ON member FOR UPDATE TO app
    USING (account_id <> caller() AND administers(org_id, project_id));

-- An org keeps an admin.
CREATE FUNCTION keep_an_admin() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    PERFORM FROM org WHERE id = OLD.org_id FOR UPDATE;
    IF NOT EXISTS (SELECT FROM member
                   WHERE org_id = OLD.org_id AND project_id IS NULL AND role = 3 AND account_id <> OLD.account_id) THEN
        RAISE check_violation USING MESSAGE = 'the last admin of an org stays';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_an_admin BEFORE UPDATE ON member FOR EACH ROW
    WHEN (OLD.role = 3 AND OLD.project_id IS NULL AND NEW.role < 3) EXECUTE FUNCTION keep_an_admin();

GRANT SELECT ON account, org, project TO app;
GRANT SELECT, INSERT ON session, note TO app;
GRANT SELECT, INSERT, UPDATE ON member TO app;
GRANT INSERT ON audit TO app;
