package qupath.lib.objects.classes

class PathClass {
    private static final Map<String, PathClass> KNOWN = [:]
    private final String name

    private PathClass(String name) { this.name = name }

    static PathClass fromString(String name) { return KNOWN.computeIfAbsent(name) { new PathClass(it) } }
    String toString() { return name }
}

class PathClassTools {
    private static String last(PathClass pathClass) { return pathClass.toString().split(': ').last() }

    static boolean isPositiveOrGradedIntensityClass(PathClass pathClass) {
        return last(pathClass) in ['Positive', '1+', '2+', '3+']
    }
    static boolean isNegativeClass(PathClass pathClass) { return last(pathClass) == 'Negative' }
}
