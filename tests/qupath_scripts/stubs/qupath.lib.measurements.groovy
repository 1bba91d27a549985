package qupath.lib.measurements

class MeasurementList implements AutoCloseable {
    private final Map<String, Double> values = [:]

    double get(String name) { return values.containsKey(name) ? values[name] : Double.NaN }
    void put(String name, double value) { values[name] = value }
    Map<String, Number> asMap() { return values.asImmutable() }
    boolean isEmpty() { return values.isEmpty() }
    void close() { }
}
