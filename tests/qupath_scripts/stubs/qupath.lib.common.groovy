package qupath.lib.common

class GeneralTools {
    static String getVersion() { return '0.5.1' }

    static String stripExtension(String name) {
        def match = name =~ /(?i)^(.+?)(\.ome)?\.[a-z]{2,5}$/
        return match.matches() ? match.group(1) : name
    }
}
