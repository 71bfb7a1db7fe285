import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** pgjdbc through a proxy: it always speaks the extended protocol, limits Execute and prepares what comes often. */
public class JdbcSuite {
    interface Test {
        void run(Connection c) throws Exception;
    }

    static Connection connect(String... more) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        for (int i = 0; i < more.length; i += 2) p.setProperty(more[i], more[i + 1]);
        String url = String.format("jdbc:postgresql://%s:%s/%s", System.getenv("PGHOST"), System.getenv("PGPORT"), System.getenv("PGDATABASE"));
        return DriverManager.getConnection(url, p);
    }

    static void equal(Object expected, Object got) {
        if (!expected.equals(got)) throw new AssertionError("expected " + expected + ", got " + got);
    }

    static long number(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            r.next();
            return r.getLong(1);
        }
    }

    static void updates(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            equal(0, s.executeUpdate("create table updated (a int primary key, b text)"));
            equal(100, s.executeUpdate("insert into updated select g, 'x' from generate_series(1, 100) g"));
            equal(50, s.executeUpdate("update updated set b = 'y' where a > 50"));
            equal(1, s.executeUpdate("insert into updated values (101, 'keys')", Statement.RETURN_GENERATED_KEYS));
            try (ResultSet keys = s.getGeneratedKeys()) {
                keys.next();
                equal(101, keys.getInt(1));
            }
            equal(10L, s.executeLargeUpdate("delete from updated where a <= 10"));
            // several statements in one string, results and counts in order
            equal(false, s.execute("update updated set b = 'z' where a = 11; select 1; select 2"));
            equal(1, s.getUpdateCount());
            equal(true, s.getMoreResults());
            equal(true, s.getMoreResults());
            equal(false, s.getMoreResults());
        }
    }

    static void serverSidePrepare(Connection c) throws Exception {
        try (PreparedStatement p = c.prepareStatement("select ?::int * 2, ?::text")) {
            p.unwrap(PGStatement.class).setPrepareThreshold(3);
            for (int n = 0; n < 30; n++) {
                p.setInt(1, n);
                p.setString(2, "\u00e4\ud83d\udc18");
                try (ResultSet r = p.executeQuery()) {
                    r.next();
                    equal(n * 2, r.getInt(1));
                    equal("\u00e4\ud83d\udc18", r.getString(2));
                }
            }
            equal(true, p.unwrap(PGStatement.class).isUseServerPrepare());
        }
        equal(1L, number(c, "select count(*) from pg_prepared_statements where statement like '%* 2%'"));
        try (PreparedStatement p = c.prepareStatement("update updated set b = ? where a = ?")) {
            for (int n = 0; n < 20; n++) {
                p.setString(1, "round " + n);
                p.setInt(2, 20);
                equal(1, p.executeUpdate());
            }
            p.getParameterMetaData().getParameterTypeName(1);
        }
        // the table changes under a prepared statement: pgjdbc sees 0A000 and, with autosave, tries again
        try (Connection d = connect("autosave", "conservative", "prepareThreshold", "1"); Statement s = d.createStatement()) {
            d.setAutoCommit(false);
            for (int round = 0; round < 2; round++) {
                try (PreparedStatement p = d.prepareStatement("select * from updated where a = 20"); ResultSet r = p.executeQuery()) {
                    equal(2 + round, r.getMetaData().getColumnCount());
                }
                if (round == 0) s.executeUpdate("alter table updated add c int");
            }
            d.commit();
        }
    }

    static void batches(Connection c) throws Exception {
        try (PreparedStatement p = c.prepareStatement("insert into updated (a, b) values (?, ?)")) {
            for (int n = 0; n < 3000; n++) {
                p.setInt(1, 1000 + n);
                p.setString(2, "batch " + n);
                p.addBatch();
            }
            equal(3000, p.executeBatch().length);
        }
        equal(3000L, number(c, "select count(*) from updated where a >= 1000"));
        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.addBatch("update updated set b = 'one' where a = 1000");
            s.addBatch("insert into updated (a) values (1000)");
            s.addBatch("update updated set b = 'never' where a = 1001");
            s.executeBatch();
            throw new AssertionError("the violation went unnoticed");
        } catch (BatchUpdateException e) {
            equal("23505", e.getSQLState());
        }
        c.rollback();
        c.setAutoCommit(true);
        try (Connection d = connect("reWriteBatchedInserts", "true");
                PreparedStatement p = d.prepareStatement("insert into updated (a, b) values (?, ?)")) {
            for (int n = 0; n < 1000; n++) {
                p.setInt(1, 10_000 + n);
                p.setString(2, null);
                p.addBatch();
            }
            equal(1000, p.executeBatch().length);
        }
        equal(1000L, number(c, "select count(*) from updated where a >= 10000"));
    }

    static void cursors(Connection c) throws Exception {
        c.setAutoCommit(false); // only in a block does it suspend portals
        try (PreparedStatement p = c.prepareStatement("select g, repeat('x', 100) from generate_series(1, ?) g")) {
            p.setFetchSize(77);
            p.setInt(1, 5000);
            long sum = 0;
            try (ResultSet r = p.executeQuery(); ResultSet second = c.createStatement().executeQuery("select 1")) {
                while (r.next()) sum += r.getInt(1); // another query in between must not disturb the portal
            }
            equal(5000L * 5001 / 2, sum);
            p.setMaxRows(10);
            p.setInt(1, 100);
            int rows = 0;
            try (ResultSet r = p.executeQuery()) {
                while (r.next()) rows++;
            }
            equal(10, rows);
        }
        c.commit();
        c.setAutoCommit(true);
        try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                ResultSet r = s.executeQuery("select a, b from updated order by a")) {
            r.last();
            r.updateString(2, "updated through the result set");
            r.updateRow();
        }
        equal(1L, number(c, "select count(*) from updated where b like 'updated through%'"));
    }

    static void copies(Connection c) throws Exception {
        CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
        number(c, "select 1");
        try (Statement s = c.createStatement()) {
            s.executeUpdate("create table copied (a int, b text)");
        }
        StringBuilder rows = new StringBuilder();
        for (int n = 0; n < 50_000; n++) rows.append(n).append("\trow \u00e4 ").append(n).append('\n');
        equal(50_000L, copy.copyIn("copy copied from stdin", new StringReader(rows.toString())));
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        equal(50_000L, copy.copyOut("copy copied to stdout", out));
        equal(rows.toString(), out.toString(StandardCharsets.UTF_8));
        CopyIn in = copy.copyIn("copy copied from stdin");
        byte[] row = "1\tx\n".getBytes();
        in.writeToCopy(row, 0, row.length);
        in.cancelCopy();
        try {
            copy.copyIn("copy copied from stdin", new StringReader("not a number\tx\n"));
            throw new AssertionError("bad data was taken");
        } catch (SQLException e) {
            equal("22P02", e.getSQLState());
        }
        equal(50_000L, number(c, "select count(*) from copied"));
    }

    static void transactions(Connection c) throws Exception {
        c.setAutoCommit(false);
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        try (Statement s = c.createStatement()) {
            s.executeUpdate("create table moved (a int)");
            s.executeUpdate("insert into moved values (1)");
            Savepoint before = c.setSavepoint("before");
            try {
                s.executeUpdate("insert into moved values ('x')");
                throw new AssertionError("bad data was taken");
            } catch (SQLException e) {
                equal("22P02", e.getSQLState());
            }
            c.rollback(before);
            s.executeUpdate("insert into moved values (2)");
            c.commit();
            equal(3L, number(c, "select sum(a) from moved"));
            c.commit();
        }
        c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        c.setAutoCommit(true);
    }

    static void cancelAndTimeout(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            s.execute("select pg_sleep(60)");
            throw new AssertionError("the query was not cancelled");
        } catch (SQLException e) {
            equal("57014", e.getSQLState());
        }
        equal(1L, number(c, "select 1"));
    }

    static void notificationsAndNotices(Connection c) throws Exception {
        try (Connection other = connect(); Statement s = c.createStatement(); Statement o = other.createStatement()) {
            s.execute("listen suite");
            for (int n = 0; n < 3; n++) o.execute("notify suite, '" + n + "'");
            int heard = 0;
            while (heard < 3) {
                PGNotification[] got = c.unwrap(PGConnection.class).getNotifications(20_000);
                if (got.length == 0) throw new AssertionError("no notification came");
                for (PGNotification n : got) equal(String.valueOf(heard++), n.getParameter());
            }
            s.execute("do $$ begin raise warning 'careful'; end $$");
            equal("careful", s.getWarnings().getMessage());
        }
    }

    static void largeObjects(Connection c) throws Exception {
        c.setAutoCommit(false); // through the function-call protocol
        LargeObjectManager all = c.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = all.createLO(LargeObjectManager.READWRITE);
        byte[] data = new byte[1_000_000];
        for (int i = 0; i < data.length; i++) data[i] = (byte) (i * 31);
        try (LargeObject o = all.open(oid, LargeObjectManager.READWRITE)) {
            o.write(data);
            o.seek(0);
            byte[] back = o.read(data.length);
            equal(java.util.Arrays.hashCode(data), java.util.Arrays.hashCode(back));
        }
        all.delete(oid);
        c.commit();
        c.setAutoCommit(true);
    }

    static void simpleMode(Connection c) throws Exception {
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection d = connect("preferQueryMode", mode); PreparedStatement p = d.prepareStatement("select ?::int + 1")) {
                for (int n = 0; n < 10; n++) {
                    p.setInt(1, n);
                    try (ResultSet r = p.executeQuery()) {
                        r.next();
                        equal(n + 1, r.getInt(1));
                    }
                }
            }
        }
    }

    static void metadata(Connection c) throws Exception {
        int tables = 0;
        try (ResultSet r = c.getMetaData().getTables(null, "public", "%", new String[] {"TABLE"})) {
            while (r.next()) tables++;
        }
        equal(3, tables);
        try (ResultSet r = c.getMetaData().getPrimaryKeys(null, "public", "updated")) {
            r.next();
            equal("a", r.getString("COLUMN_NAME"));
        }
    }

    public static void main(String[] args) throws Exception {
        String[] names = {"updates", "serverSidePrepare", "batches", "cursors", "copies", "transactions", "cancelAndTimeout",
            "notificationsAndNotices", "largeObjects", "simpleMode", "metadata"};
        Test[] tests = {JdbcSuite::updates, JdbcSuite::serverSidePrepare, JdbcSuite::batches, JdbcSuite::cursors,
            JdbcSuite::copies, JdbcSuite::transactions, JdbcSuite::cancelAndTimeout, JdbcSuite::notificationsAndNotices,
            JdbcSuite::largeObjects, JdbcSuite::simpleMode, JdbcSuite::metadata};
        try (Connection c = connect()) {
            for (int i = 0; i < tests.length; i++) {
                System.out.println(names[i]);
                tests[i].run(c);
            }
            System.out.println("all passed (pgjdbc " + c.getMetaData().getDriverVersion() + ")");
        }
    }
}
