"""Makes the tables beside this file, flow logs of nobody, with the library pyarrow (26.0 made those that stand here).

The types of the columns are those of the VPC user guide, "Available fields"; writers differ in the rest.
"""
import pyarrow as pa
import pyarrow.parquet as pq

NAMES = "version account_id interface_id srcaddr dstaddr srcport dstport protocol packets bytes start end action log_status tcp_flags az_id".split()
SMALL = {"version", "srcport", "dstport", "protocol", "tcp_flags"}
BIG = {"packets", "bytes", "start", "end"}


def kind(name):
    return pa.int32() if name in SMALL else pa.int64() if name in BIG else pa.string()


def row(n):
    if n % 50 == 9:
        return [2, "111122223333", "eni-0a", None, None, None, None, None, None, None, 1700000000 + n, 1700000050 + n, None, "NODATA", None, None]
    return [5, "111122223333", "eni-0a", "10.0.0.5", f"198.51.100.{n % 200}", 40000 + n, 443, 6, 10 + n % 3, 840 * n, 1700000000 + n,
            1700000050 + n, "ACCEPT" if n % 13 else "REJECT", "OK", 3, "euw1-az1"]


def table(rows):
    columns = list(zip(*rows))
    arrays = [pa.array(values, kind(name)) for name, values in zip(NAMES, columns)]
    return pa.table(arrays, names=NAMES)


ROWS = table([row(n) for n in range(500)])
pq.write_table(ROWS, "gzip-dictionary.parquet", compression="gzip", data_page_version="1.0", row_group_size=200, data_page_size=256,
               write_batch_size=20)
pq.write_table(ROWS, "snappy-plain.parquet", compression="snappy", use_dictionary=False, data_page_version="1.0", data_page_size=2048)
texts = {name: "DELTA_BYTE_ARRAY" if name == "dstaddr" else "DELTA_LENGTH_BYTE_ARRAY" for name in NAMES if kind(name) == pa.string()}
numbers = {name: "DELTA_BINARY_PACKED" for name in SMALL | BIG}
pq.write_table(ROWS, "differences.parquet", compression="snappy", use_dictionary=False, column_encoding=texts | numbers,
               data_page_version="2.0", data_page_size=2048)
pq.write_table(ROWS, "plain.parquet", compression="none", data_page_version="2.0", data_page_size=4096)
required = pa.schema([pa.field(name, kind(name), nullable=False) for name in NAMES])
whole = [row(n) for n in range(500) if n % 50 != 9]
pq.write_table(table(whole).cast(required), "required.parquet", compression="gzip", data_page_version="1.0")
pq.write_table(ROWS, "zstd.parquet", compression="zstd")
pq.write_table(table([row(1)] * 1_000_000), "same.parquet", compression="gzip", data_page_version="1.0", row_group_size=1_000_000,
               data_page_size=1 << 24, write_batch_size=1 << 20)
nested = pa.table({"srcaddr": [["10.0.0.5"]], "dstaddr": ["10.0.0.6"], "start": [1700000000]})
pq.write_table(nested, "nested.parquet")
odd = pa.table({"srcaddr": ["10.0.0.5", "10.0.0 .5"], "dstaddr": ["10.0.0.6"] * 2, "start": [1700000000, 1700000001]})
pq.write_table(odd, "odd.parquet")
pq.write_table(pa.table({"srcaddr": [1.5], "dstaddr": ["10.0.0.6"], "start": [1700000000]}), "float.parquet")
pq.write_table(pa.table({"srcaddr": ["10.0.0.5"], "bytes": [1]}), "columns.parquet")
